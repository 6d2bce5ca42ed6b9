"""The report on a run that ends its coordinators, told from its log."""

from __future__ import annotations

import msgspec

from pointsman import App, Run
from pointsman.coordinator.owning.verdict import verdict
from pointsman.kernel import events as ev
from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Victim
from tests.support.lab import Lab

app = App("verdict")
BOOM = ev.Failure("exception", "boom", retryable=False)
HEAD = Head(
    id="run-1", workflow="laps", version=1, build="", status="running", sequence=9, epoch=3, owner=7, mail=0, folded=0,
    takeovers=5, wake_at=None, tenant="default", attributes={}, digest="", bucket=0, parent=None, created_at=0,
    updated_at=0, ended_at=None,
)  # fmt: skip


@app.agent()
async def work(n: int) -> int:
    return n


@app.workflow()
async def laps(run: Run, n: int) -> int:
    await run.call(work, n, key="lap")
    if n:
        return run.restart(n - 1)
    handles = [run.start(work, n, key=key) for key in ("risk", "left")]
    done = await run.gather(*handles)
    return sum(done)


def lab() -> Lab:
    return Lab(app, laps, b"1", answer=lambda pending: pending.data)


def test_what_is_under_way_is_of_the_last_generation_and_of_what_a_redrive_left() -> None:
    run = lab()
    for n in (1, 0):
        run.execution.completed("lap" if n else "lap@2", 1, b"1", run.now)
        run._append()
    calls = list(run.execution.state.calls)
    risk = next(call for call in calls if call.startswith("risk"))
    run.execution.attempt_failed(risk, 1, BOOM, run.now)
    run._append()
    assert run.failure.kind == "exception"
    run.redrive()
    begins = max(row.sequence for row in run.log if row.type == "RunRestarted")
    head = msgspec.structs.replace(HEAD, base=begins, generation=2)
    report = str(verdict(head, run.log[begins - 2 :], [Victim(4, "n1")]))
    for call in calls:
        assert call in report
    assert "attempt 2" in report
    assert "n1 (incarnation 4)" in report
    assert "unknown" not in report
