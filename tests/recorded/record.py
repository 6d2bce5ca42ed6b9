"""Write the histories of new features: `python -m tests.recorded.record`. A history that exists is never
written again."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel

from pointsman import App, Budget, Run
from pointsman.kernel import events as ev
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.state import PendingCall
from pointsman.testing.replay import save
from tests.support import programs
from tests.support.lab import Emitting, Lab

HERE = Path(__file__).parent
WORKFLOWS = {"refused": "failing", "repaired": "sequence", "parcel": "parcel.sent"}
EVENTS: dict[str, ev.Failure | Emitting] = {
    "carry": ev.Failure("refused", "too heavy", retryable=False),
    "track": (b"7", (ev.Emission("parcel.arrived", msgspec.Raw(b"7")),)),
    "apologise": (b"null", (ev.Emission("parcel.refunded"),)),
}
"""What agents of event-driven runs give and emit."""


def answer(pending: PendingCall, is_well: list[bool]) -> bytes | ev.Failure | Emitting:
    if pending.target in EVENTS:
        return EVENTS[pending.target]
    if pending.call == "charge":
        if pending.data == b"0":
            return ev.Failure("refused", "no", retryable=False)
        if pending.attempt < 3:
            return ev.Failure("exception", "boom")
    if pending.target == "star" and not is_well[0]:
        return ev.Failure("exception", "stage fright")
    if pending.target == "double":
        return msgspec.json.encode(2 * msgspec.json.decode(pending.data))
    return pending.data


class TicketV1(BaseModel):
    state: str
    notes: list[str] = []


async def stating_v1(run: Run, rounds: int) -> None:
    """`programs.stating` as it was when its state was of version 1."""
    if run.generation == 1:
        run.set(TicketV1(state="new"))
    run.set(state=f"round {run.generation}")
    number = await run.call(programs.double, run.generation)
    run.set(notes=[*run.state.notes, f"{number} " + "and so on, " * 300])
    await run.call(programs.double, number)
    if run.generation <= rounds:
        run.restart(rounds)


def stating(path: Path) -> None:
    """Begun under version 1 of the state, taken over by version 2 in the second generation."""
    app = App("programs", generalist="generalist")
    app._agents = programs.app._agents
    before = app.workflow(name="stating", state=TicketV1)(stating_v1)
    lab = Lab(app, before, b"1", answer=partial(answer, is_well=[False])).run(steps_max=3)
    lab.app, lab.workflow = programs.app, programs.stating
    lab._evict = lambda step: step == 3
    lab.run()
    if not path.exists():
        save(lab.log, path)
        print(f"wrote {path.name}: {len(lab.log)} events")


def main() -> None:
    stating(HERE / "stating.v1.jsonl")
    inputs = {
        "sequence": b"3", "parallel": b"3", "failing": b"2", "refused": b"0", "recovering": b"4",
        "repaired": b"3",
        "parcel": b"7", "planned": b"5", "deadlocked": b"1", "large": msgspec.json.encode("à propos " * 300),
        "rounds": b"[]", "risky": b"2",
        "thrifty": b"3",
        "approving": b"4", "escalating": b"8000",
    }  # fmt: skip
    signals = {"waiting": [("early", b"1"), ("order", b'{"id": 1}')],
               "rounds": [("word", b'"one"'), ("word", b'"two"'), ("word", b'"three"')]}  # fmt: skip
    names = "sequence parallel waiting derived selecting failing refused large foreign cleaning_up recovering repaired "
    names += "rounds risky parcel planned deadlocked thrifty approving escalating"
    for name in names.split():
        path = HERE / f"{name}.v1.jsonl"
        workflow = programs.app.directory.workflow(WORKFLOWS.get(name, name))
        assert workflow is not None
        more: dict[str, Any] = {"signals": signals.get(name, ())}
        if name == "recovering":
            more = {"people": [b"12"], "budget": Budget(usd=1.0), "spent": Amount(usd_micros=50_000)}
        if name == "approving":
            no = ev.Failure("not_answered", "ann refused: too late", retryable=False)
            more = {"people": [b'{"id":0,"lines":[]}', b'{"id":5,"lines":["x"]}', no, "bob", None, None, None]}
        if name == "escalating":
            more = {"people": [None, "bob", *[None] * 9]}
        is_well = [name == "thrifty"]
        programs.app.directory.mode = "degraded" if name == "thrifty" else "full"
        lab = Lab(programs.app, workflow, inputs.get(name, b"null"), answer=partial(answer, is_well=is_well), **more)
        if name == "recovering":
            lab.execution.held("star#1", ev.Failure("unhealthy", "a cold", retryable=False), lab.now)
            lab.execution.admitted("star#1", lab.now)
            lab.record_effect("star#1", "bow", b"1")
        if name == "cleaning_up":
            lab.cancel("closing time")
        if name == "repaired":
            lab.run(steps_max=2)
            lab.repair(kept=3)
        if name == "thrifty":
            for mode in ("full", "emergency", "full"):
                lab.run()
                programs.app.directory.mode = mode
                lab.signal("next")
        lab.run()
        if name == "risky":
            assert lab.failure.kind == "exception"
            is_well[0] = True
            lab.redrive()
            lab.run()
        if not path.exists():
            save(lab.log, path)
            print(f"wrote {path.name}: {len(lab.log)} events")


if __name__ == "__main__":
    main()
