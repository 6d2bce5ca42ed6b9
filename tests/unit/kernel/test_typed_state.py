"""`run.state` and `run.set` in the kernel alone: what is set stands, in every replay, by whatever code can read it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field

from pointsman import App, CallError, InvalidState, InvalidValue, Run, StateChangedInPlace, StateFromFuture, Workflow
from pointsman.kernel import events as ev
from pointsman.kernel.errors import NonDeterministicWorkflow, ValueTooLarge
from pointsman.kernel.execution import Execution
from pointsman.kernel.state import PendingCall
from pointsman.kernel.typed_state import state_at
from tests.support.lab import Lab


class Order(BaseModel):
    status: str = "new"
    total: float = Field(default=0, ge=0)
    lines: list[str] = []


app = App("state")


@app.agent
async def double(n: int) -> int:
    return 2 * n


@app.agent
async def broken(n: int) -> int:
    return n


Body = Callable[[Run], Coroutine[Any, Any, Any]]


def declared(body: Body, kind: Any = Order, version: int = 1, upcasters: Any = None) -> Workflow:
    other = App("state")
    other._agents = app._agents
    return other.workflow(name="w", state=kind, state_version=version, state_upcasters=upcasters)(body)


def answer(pending: PendingCall) -> bytes | ev.Failure:
    if pending.target == "broken":
        return ev.Failure("refused", "no", retryable=False)
    return msgspec.json.encode(2 * msgspec.json.decode(pending.data))


def lab_of(body: Body, *, evicts: bool = True, **schema: Any) -> Lab:
    return Lab(app, declared(body, **schema), answer=answer, evict=lambda step: evicts)


def kept(lab: Lab) -> tuple[int, Any] | None:
    state = lab.execution.state.kept
    by_log = state_at(lab.log[lab.execution.state.base - 1 :])
    assert state == (by_log[0] if by_log is not None else None)
    return None if state is None else (state.version, msgspec.json.decode(state.data))


def replay(lab: Lab, body: Body, *, length: int | None = None, **schema: Any) -> Execution:
    execution = Execution("run-1", declared(body, **schema), app.directory)
    execution.replay(lab.log[:length])
    return execution


async def steps(run: Run) -> list[Any]:
    seen = [run.state]
    run.set(status="begun")
    for n in range(3):
        total = await run.call(double, n)
        seen.append(run.state.total)
        run.set(total=total, lines=[*run.state.lines, f"line {n}"])
    run.set(Order(status="done", total=run.state.total))
    return [*seen, run.state.model_dump()]


@pytest.mark.parametrize("evicts", [False, True])
def test_what_is_set_stands_and_each_write_is_an_event(evicts: bool) -> None:
    lab = lab_of(steps, evicts=evicts).run()
    assert lab.output == [None, 0, 0, 2, {"status": "done", "total": 4, "lines": []}]
    assert lab.types == [
        "RunStarted", "StateSet", "CallRequested", "CallCompleted", "StateSet", "CallRequested", "CallCompleted",
        "StateSet", "CallRequested", "CallCompleted", "StateSet", "StateSet", "RunCompleted",
    ]  # fmt: skip
    assert lab.log[1].body == b'{"call":"set:state#1","state":{"lines":[],"status":"begun","total":0.0}}'
    assert kept(lab) == (1, {"status": "done", "total": 4, "lines": []})


def test_the_state_is_set_before_the_agent_is_called() -> None:
    lab = lab_of(steps)
    assert lab.types == ["RunStarted", "StateSet", "CallRequested"]
    assert kept(lab) == (1, {"status": "begun", "total": 0, "lines": []})


async def invalid(run: Run) -> list[str]:
    said = []
    tries: list[Callable[[], None]] = [
        lambda: run.set(total=-1),
        lambda: run.set(totl=1),
        lambda: run.set(Order.model_construct(status=7, total="many", lines=[])),
        lambda: run.set("a text"),
        lambda: run.set(total=float("nan")),
        lambda: run.set(status="\ud800"),
        lambda: run.set(lines=["x" * 2_000_000]),
        lambda: run.set(),
        lambda: run.set(Order(), status="x"),
    ]
    for attempt in tries:
        try:
            attempt()
        except (InvalidState, InvalidValue) as error:
            said.append(f"{error.code}: {error}")
    assert run.state is None
    await run.call(double, 1)
    return said


def test_what_does_not_fit_is_refused_and_nothing_is_set() -> None:
    lab = lab_of(invalid).run()
    said = lab.output
    assert isinstance(said, list)
    assert "StateSet" not in lab.types
    assert said[0] == "invalid_state: the state of w: total: Input should be greater than or equal to 0"
    assert said[1] == "invalid_state: the state of w has no field totl; it has status, total, lines"
    assert "status: Input should be a valid string; total: Input should be a valid number" in said[2]
    assert said[3].startswith("invalid_state: the state of w")
    assert said[4].startswith("invalid_")
    assert said[5].startswith("invalid_")
    assert said[6].startswith("value_too_large: ")
    assert "nothing was given" in said[7]
    assert "a value or fields, not both" in said[8]
    assert ValueTooLarge.code == "value_too_large"


def test_a_workflow_without_a_state_says_so() -> None:
    async def reads(run: Run) -> None:
        assert run.state

    async def writes(run: Run) -> None:
        run.set(status="x")

    for body in (reads, writes):
        lab = Lab(app, declared(body, kind=None), answer=answer).run()
        assert lab.failure.kind == "invalid_value"
        assert "@app.workflow(state=...)" in lab.failure.message


def test_what_is_written_into_the_object_ends_the_run() -> None:
    """At once, also where the body goes on to call somebody, ends or restarts; and the log is as it was."""

    async def calls(run: Run) -> None:
        run.set(Order())
        run.state.lines.append("smuggled")
        await run.call(double, 1)

    async def ends(run: Run) -> None:
        run.set(Order())
        run.state.status = "smuggled"

    async def restarts(run: Run) -> None:
        run.set(Order())
        await run.call(double, 1)
        run.state.status = "smuggled"
        run.restart()

    async def sets(run: Run) -> None:
        run.set(Order())
        run.state.lines.append("smuggled")
        run.set(status="other")

    for body in (calls, ends, restarts, sets):
        lab = lab_of(body).run()
        assert lab.failure.kind == StateChangedInPlace.code, body
        assert kept(lab) == (1, {"status": "new", "total": 0, "lines": []})

    async def fails(run: Run) -> None:
        run.set(Order())
        run.state.status = "smuggled"
        raise ValueError("of its own")

    assert lab_of(fails).run().failure.message == "ValueError: of its own"


def test_the_object_itself_may_be_changed_and_set() -> None:
    async def body(run: Run) -> str:
        run.set(Order())
        order = run.state
        order.lines.append("more")
        run.set(order)
        await run.call(double, 1)
        return str(run.state.lines[0])

    assert lab_of(body).run().output == "more"


@dataclass
class Point:
    x: int
    y: int = 0


def test_a_dataclass_is_a_state_too() -> None:
    async def body(run: Run) -> list[Any]:
        for bad in ({"y": 1}, {"x": "no"}, {"x": 1, "z": 1}):
            with pytest.raises(InvalidState):
                run.set(**bad)
        run.set(x=1)
        await run.call(double, 1)
        run.set(y=2)
        with pytest.raises(InvalidState):
            run.set(y="no")
        assert run.state == Point(1, 2)
        await run.call(double, 2)
        run.set({"x": 7})
        return [run.state.x, run.state.y]

    assert lab_of(body, kind=Point).run().output == [7, 0]


def test_branches_set_it_in_the_order_of_the_log() -> None:
    async def one(run: Run, n: int) -> None:
        total = await run.call(double, n)
        run.set(lines=[*run.state.lines, f"{n}: {total}"])

    async def body(run: Run) -> list[str]:
        run.set(Order())
        await run.gather(*(run.branch("one", one, n) for n in range(4)))
        return list(run.state.lines)

    lab = lab_of(body).run()
    assert lab.output == [f"{n}: {2 * n}" for n in (1, 3, 2, 0)] or sorted(lab.output) == [  # type: ignore[call-overload]
        f"{n}: {2 * n}" for n in range(4)
    ]
    assert b'"call":"one/3.set:state#1"' in b"".join(row.body for row in lab.log)


def test_a_large_state_grows_the_log_by_what_is_new() -> None:
    async def body(run: Run) -> int:
        run.set(Order())
        for n in range(20):
            await run.call(double, n)
            run.set(lines=[*run.state.lines, f"{n:04}" * 500])
        return len(run.state.lines)

    lab = lab_of(body).run()
    assert lab.output == 20
    sizes = [len(row.body) for row in lab.log if row.type == "StateSet"]
    assert sum(sizes) < 20 * 3_000, "2 KB are new each time, of up to 40 KB"
    state = kept(lab)
    assert state is not None
    assert state[1]["lines"] == [f"{n:04}" * 500 for n in range(20)]


def test_a_restart_keeps_it() -> None:
    async def body(run: Run) -> list[Any]:
        run.set(total=(run.state.total if run.state else 0) + 1, lines=["x" * 5_000])
        await run.call(double, 1)
        if run.generation < 4:
            run.restart()
        return [run.state.total, len(run.state.lines[0])]

    lab = lab_of(body).run()
    assert lab.output == [4, 5_000]
    assert [row.body.count(b'"state":{"version":1,"data":{') for row in lab.log if row.type == "RunRestarted"] == [
        1
    ] * 3


def test_a_restart_keeps_what_nobody_declares_any_more() -> None:
    async def body(run: Run) -> None:
        run.set(total=5)
        await run.call(double, 1)
        run.restart()

    async def later(run: Run) -> None:
        await run.call(double, 1)
        run.restart()

    lab = lab_of(body, evicts=False)
    lab.step()
    lab.log = lab.log[:-2]  # what the second generation sets and asks for is left to other code
    execution = replay(lab, later, kind=None)
    assert [type(p.event).__name__ for p in execution.take()] == ["CallRequested"]
    assert execution.completed("double#1@2", 1, b"2", 1)
    (restarted,) = [p.event for p in execution.take() if isinstance(p.event, ev.RunRestarted)]
    assert restarted.generation == 3
    assert restarted.state is not None
    assert msgspec.json.decode(restarted.state.data)["total"] == 5


def test_a_redrive_goes_on_from_the_state_that_stood() -> None:
    async def body(run: Run) -> str:
        run.set(status="trying")
        try:
            n = await run.call(broken, 1)
        except CallError:
            run.set(status="given up")
            raise
        return f"{run.state.status} {n}"

    lab = lab_of(body).run()
    assert kept(lab) == (1, {"status": "given up", "total": 0, "lines": []})
    lab.redrive()
    assert kept(lab) == (1, {"status": "trying", "total": 0, "lines": []})
    lab._answer = lambda pending: pending.data
    assert lab.run().output == "trying 1"


# -- another version of the code -------------------------------------------------------------------------------


class OrderV3(BaseModel):
    phase: str
    total: float
    currency: str
    lines: list[str] = []


def to_v2(old: dict[str, Any]) -> dict[str, Any]:
    return {**{name: old[name] for name in ("total", "lines")}, "phase": old["status"]}


def to_v3(old: dict[str, Any]) -> dict[str, Any]:
    return {**old, "currency": "EUR"}


async def steps_v3(run: Run) -> list[Any]:
    run.set(OrderV3(phase="begun", total=0, currency="EUR"))
    for n in range(3):
        total = await run.call(double, n)
        run.set(total=total, lines=[*run.state.lines, f"line {n}"])
    run.set(phase="done", lines=[])
    return [run.state.model_dump()]


def test_an_open_run_is_driven_by_code_with_a_newer_version() -> None:
    """From every prefix of what the older code recorded."""
    lab = lab_of(steps).run()
    for length in range(1, len(lab.log) - 1):
        then = lab_of(steps)
        then.log = lab.log[:length]
        then.workflow = declared(steps_v3, kind=OrderV3, version=3, upcasters={1: to_v2, 2: to_v3})
        then.execution.close()
        then.execution = Execution("run-1", then.workflow, app.directory)
        then.execution.replay(then.log)
        assert then.execution.warnings == []
        then._append()
        then.run()
        assert then.output == [{"phase": "done", "total": 4, "currency": "EUR", "lines": []}]
        assert kept(then) == (3, {"phase": "done", "total": 4, "currency": "EUR", "lines": []}), length


def test_what_the_code_would_set_now_changes_nothing_of_what_was_recorded() -> None:
    async def other(run: Run) -> Any:
        run.set(status="begun otherwise")
        await run.call(double, 0)
        return run.state.status

    async def refused(run: Run) -> Any:
        run.set(total=-1)
        await run.call(double, 0)
        return run.state.status

    lab = lab_of(steps)
    for body, said in ((other, "the code now sets another value"), (refused, "total: Input should be greater")):
        execution = replay(lab, body)
        assert execution.completed("double#1", 1, b"0", 1)
        (warning,) = execution.warnings
        assert warning.startswith("set:state#1: ")
        assert said in warning
        assert isinstance(execution.ending, ev.RunCompleted)
        assert execution.ending.output == msgspec.Raw(b'"begun"')


def test_a_state_that_does_not_fit_is_reported_exactly() -> None:
    lab = lab_of(steps).run()
    with pytest.raises(InvalidState) as raised:
        replay(lab, steps_v3, kind=OrderV3)
    assert str(raised.value) == (
        "what set:state#1 set, version 1 of the state, does not fit version 1: the state of w: phase: Field required; "
        'currency: Field required. It is {"lines":[],"status":"begun","total":0.0}. Deploy code whose schema or '
        "upcaster (state_upcasters=) takes it; then release the run"
    )
    with pytest.raises(InvalidState, match=r"no upcaster reads version 1 \(state_upcasters=\{1: \.\.\.\}\)"):
        replay(lab, steps_v3, kind=OrderV3, version=3, upcasters={2: to_v3})
    with pytest.raises(InvalidState, match="the upcaster of version 1 failed: KeyError: 'currency'"):
        replay(lab, steps_v3, kind=OrderV3, version=2, upcasters={1: lambda old: {"currency": old["currency"]}})
    with pytest.raises(InvalidState, match="the upcasters gave a object is not a JSON value"):
        replay(lab, steps_v3, kind=OrderV3, version=2, upcasters={1: lambda old: {"currency": object()}})
    with pytest.raises(InvalidState, match="phase: Field required"):
        replay(lab, steps_v3, kind=OrderV3, version=2, upcasters={1: lambda old: old})


def test_a_state_that_a_generation_began_with_is_read_too() -> None:
    async def body(run: Run) -> None:
        run.set(status="x")
        await run.call(double, 1)
        run.restart()

    async def later(run: Run) -> None:
        await run.call(double, 1)

    lab = lab_of(body, evicts=False)
    lab.step()
    lab.log = lab.log[:-2]
    with pytest.raises(InvalidState, match="what generation 2 began with, version 1 of the state"):
        replay(lab, later, kind=OrderV3, version=3)
    replay(lab, later, kind=OrderV3, version=3, upcasters={1: to_v2, 2: to_v3}).close()


def test_a_state_from_the_future_waits_for_its_code() -> None:
    lab = lab_of(steps_v3, kind=OrderV3, version=3, upcasters={}).run()
    with pytest.raises(StateFromFuture, match="is of version 3; this code knows 1"):
        replay(lab, steps)


def test_a_body_that_no_longer_sets_it_does_not_fit_its_log() -> None:
    async def body(run: Run) -> None:
        await run.call(double, 0)

    with pytest.raises(NonDeterministicWorkflow, match="StateSet call='set:state#1'"):
        replay(lab_of(steps).run(), body)


@pytest.mark.parametrize(
    ("schema", "error", "message"),
    [
        ({"state": int}, TypeError, "a pydantic model or a dataclass"),
        ({"state": Order, "state_version": 0}, ValueError, "a whole number from 1"),
        ({"state": Order, "state_version": 3, "state_upcasters": {1: to_v2}}, ValueError, "must end with 2"),
        ({"state": Order, "state_version": 1, "state_upcasters": {1: to_v2}}, ValueError, "must end with 0"),
        ({"state": Order, "state_version": 1, "state_upcasters": {0: to_v2}}, ValueError, "must end with 0"),
        ({"state_version": 2}, ValueError, "give that too"),
        ({"state_upcasters": {1: to_v2}}, ValueError, "give that too"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    schema: dict[str, Any], error: type[Exception], message: str
) -> None:
    async def body(run: Run) -> None: ...

    with pytest.raises(error, match=message):
        App("x").workflow(**schema)(body)
