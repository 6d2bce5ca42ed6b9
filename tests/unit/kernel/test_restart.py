"""`run.restart`: the same run, its next generation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pointsman import App, Budget, Handle, Run
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog, NonDeterministicWorkflow
from pointsman.kernel.execution import Execution
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.state import PendingCall
from pointsman.testing.replay import replay_prefixes
from tests.support import programs
from tests.support.lab import Lab

WORDS = [("word", b'"a"'), ("word", b'"b"'), ("word", b'"c"')]
app = App("restart")


def answer(pending: PendingCall) -> bytes:
    return msgspec.json.encode(2 * msgspec.json.decode(pending.data)) if pending.target == "double" else pending.data


def rounds(**more: Any) -> Lab:
    workflow = programs.app.directory.workflow("rounds")
    assert workflow is not None
    return Lab(programs.app, workflow, b"[]", answer=answer, signals=WORDS, **more)


def test_each_generation_begins_anew_and_the_run_goes_on() -> None:
    lab = rounds().run()
    said = lab.output
    assert isinstance(said, list)
    assert [said[0:3], said[4:7], said[8:11]] == [[1, 2, "a"], [2, 4, "b"], [3, 6, "c"]]
    assert len({said[3], said[7], said[11]}) == 3, "a generation never draws what another drew"
    assert lab.types.count("RunRestarted") == 2
    assert lab.execution.state.generation == 3
    assert lab.log[lab.execution.state.base - 1].type == "RunRestarted"


def test_call_ids_and_keys_hold_the_generation() -> None:
    keys: list[tuple[str, str]] = []

    def note(pending: PendingCall) -> bytes:
        keys.append((pending.call, pending.key))
        return answer(pending)

    lab = rounds()
    lab._answer = note
    lab.run()
    assert keys == [
        ("double#1", "run-1/1/double#1"), ("double#1@2", "run-1/2/double#1@2"), ("double#1@3", "run-1/3/double#1@3"),
    ]  # fmt: skip


def test_a_run_that_leaves_memory_at_every_step_reads_only_its_last_generation() -> None:
    """The lab hands a replay what a loader reads: from the generation's first event on."""
    assert rounds(evict=lambda _: True).run().log == rounds().run().log


@pytest.mark.parametrize("step", range(12))
def test_eviction_at_any_step_changes_nothing(step: int) -> None:
    assert rounds(evict=lambda n: n == step).run().log == rounds().run().log


def test_every_prefix_replays_with_all_generations_and_without_earlier_ones() -> None:
    log = rounds().run().log
    replay_prefixes(programs.app, "run-1", log)
    workflow = programs.app.directory.workflow("rounds")
    assert workflow is not None
    for length in range(1, len(log) + 1):
        base = max(n for n, row in enumerate(log[:length]) if row.type in ("RunStarted", "RunRestarted"))
        one, other = (Execution("run-1", workflow, programs.app.directory) for _ in range(2))
        one.replay(log[:length])
        other.replay(log[base:length])
        assert one.state == other.state
        assert one.take() == other.take()


def test_what_was_asked_for_and_not_appended_is_asked_for_again() -> None:
    """Up to the cause that ends a generation: its replay gives the next one."""
    log = rounds().run().log
    first = next(n for n, row in enumerate(log) if row.type == "RunRestarted")
    workflow = programs.app.directory.workflow("rounds")
    assert workflow is not None
    execution = Execution("run-1", workflow, programs.app.directory)
    execution.replay(log[:first])
    new = [(p.at, type(p.event).__name__, p.body) for p in execution.take()]
    assert new == [(row.at, row.type, row.body) for row in log[first : first + len(new)]]
    assert [kind for _, kind, _ in new] == ["RunRestarted", "CallRequested"]


def test_a_generation_that_never_restarted_by_the_log_is_refused() -> None:
    log = rounds().run().log
    first = next(n for n, row in enumerate(log) if row.type == "RunRestarted")
    late = log[first - 1]
    body = ev.encode_event(ev.TimerFired(call="nothing"))
    with pytest.raises(NonDeterministicWorkflow):
        replay_prefixes(
            programs.app, "run-1", [*log[:first], ev.Recorded(late.sequence + 1, late.at, "TimerFired", 1, body)]
        )


def test_a_log_that_begins_in_the_middle_is_refused() -> None:
    workflow = programs.app.directory.workflow("rounds")
    assert workflow is not None
    with pytest.raises(CorruptLog, match="does not begin"):
        Execution("run-1", workflow, programs.app.directory).replay(rounds().run().log[1:3])


# -- what goes on -----------------------------------------------------------------------------------------------------


@app.agent
async def echo(n: int) -> int:
    return n


@app.workflow()
async def drain(run: Run, total: int) -> int:
    """Takes one signal a generation, also when they are there already."""
    number = await run.wait_for("add", expect=int)
    if number == 0:
        return total
    return run.restart(total + number)


@app.workflow()
async def child(run: Run, n: int) -> int:
    return await run.wait_for("never", expect=int)


@app.workflow()
async def keeper(run: Run, round: int) -> str:  # noqa: A002
    if round == 0:
        run.start(child, 1)
        await run.sleep(1)
        run.restart(1)
    await run.start(child, 2)
    return "done"


@app.workflow()
async def careless(run: Run, what: str) -> str:
    if what == "at once":
        run.restart(what)
    await run.sleep(1)
    if what == "call":
        run.start(echo, 1)
    if what == "bad":
        run.restart(what, 1)
    if what == "branch":
        await run.branch("side", aside)
    run.restart("over")


async def aside(run: Run) -> None:
    run.restart("no")


@app.workflow()
async def spender(run: Run, n: int) -> float:
    await run.call(echo, n)
    if n:
        run.restart(n - 1)
    return run.now()


@app.workflow()
async def impatient(run: Run, n: int) -> str:
    if n == 0:
        asked = run.start(echo, 1, person="How?")
        await run.wait_for("enough", expect=int)
        asked.cancel()
        run.restart(1)
    await run.sleep(1)
    return "done"


def lab(workflow: Any, data: bytes, **more: Any) -> Lab:
    return Lab(app, workflow, data, answer=lambda p: p.data, **more)


def test_signals_that_nobody_has_waited_for_go_on_and_may_end_a_generation_at_once() -> None:
    run = lab(drain, b"0")
    for number, value in enumerate([1, 2, 3, 0], 1):
        signal = ev.SignalReceived(name="add", key=str(number), mail=number, payload=msgspec.Raw(b"%d" % value))
        run.execution.mailed(signal, run.now)
    run._append()
    assert run.output == 6
    assert run.execution.state.folded == 4
    replay_prefixes(app, "run-1", run.log)


def test_a_large_input_is_whole_in_its_generation() -> None:
    @app.workflow()
    async def carrying(run: Run, text: str) -> int:
        await run.sleep(1)
        if len(text) > 6_000:
            return len(text)
        return run.restart(text + text)

    run = lab(carrying, msgspec.json.encode("x" * 3_500), evict=lambda _: True).run()
    assert run.output == 7_000


def test_children_go_on_and_are_nobodys_result() -> None:
    run = lab(keeper, b"0").run()
    state = run.execution.state
    assert len(state.children) == 2
    (old, new) = state.children.items()
    run.execution.mailed(
        ev.ChildEnded(call=old[0], mail=1, status="failed", run=old[1], failure=ev.Failure("late")), run.now
    )
    run.execution.mailed(
        ev.ChildEnded(call=new[0], mail=2, status="completed", run=new[1], output=msgspec.Raw(b"1")), run.now
    )
    run._append()
    assert run.output == "done"
    replay_prefixes(app, "run-1", run.log)


def test_what_the_budget_allows_is_of_the_whole_run() -> None:
    run = lab(spender, b"3", budget=Budget(usd=1.0), spent=Amount(usd_micros=10_000, calls=1)).run()
    assert run.execution.state.spent.usd_micros == 40_000
    assert run.execution.state.started_at == 1_000_000
    assert run.execution.state.generation == 4


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("call", "calls_under_way", "echo#1 are under way"),
        ("at once", "loop_detected", "restart for ever"),
        ("bad", "invalid_input", ""),
        ("branch", "invalid_value", "inside a branch"),
    ],
)
def test_what_can_not_restart_says_why(what: str, kind: str, says: str) -> None:
    run = lab(careless, msgspec.json.encode(what)).run()
    assert run.failure.kind == kind
    assert says in run.failure.message
    replay_prefixes(app, "run-1", run.log)


def test_a_cancel_goes_on() -> None:
    @app.workflow()
    async def deaf(run: Run, n: int) -> str:
        with run.shield():
            await run.sleep(1)
        if n == 0:
            run.restart(1)
        await run.sleep(1)
        return "never"

    run = lab(deaf, b"0")
    run.cancel("enough")
    run.run()
    assert isinstance(run.execution.state.outcome, ev.RunWasCancelled)
    assert run.execution.state.outcome.reason == "enough"


def test_the_limit_of_events_is_of_a_generation_and_says_what_to_do() -> None:
    @app.workflow()
    async def long(run: Run, n: int) -> str:
        for _ in range(n):
            await run.call(echo, n)
        return "never"

    def log_of(execution: Execution) -> list[ev.Recorded]:
        new = enumerate(execution.take(), 1)
        return [ev.Recorded(n, p.at, type(p.event).__name__, p.event.VERSION, p.body) for n, p in new]

    execution = Execution("run-1", long, app.directory, events_max=9)
    execution.begin(ev.RunStarted(workflow="long", seed="s", input=msgspec.Raw(b"9")), b"9", 1)
    for number in range(1, 10):
        execution.completed(f"echo#{number}", 1, b"9", number)
    assert isinstance(execution.ending, ev.RunFailed)
    assert execution.ending.failure.kind == "event_limit_reached"
    assert "run.restart" in execution.ending.failure.message
    assert execution.state.length == 9
    again = Execution("run-1", long, app.directory, events_max=3)
    again.replay(log_of(execution))
    assert again.ending is None, "a limit that was lowered refuses nothing that is recorded"


def test_a_handle_is_not_for_the_next_generation() -> None:
    """Late for one generation is not taken for the next: the ids differ."""
    kept: list[Handle[int]] = []

    @app.workflow()
    async def leaking(run: Run, n: int) -> int:
        if n == 0:
            kept.append(run.start(echo, 1))
            await kept[0]
            run.restart(1)
        await run.sleep(1)
        return await run.call(echo, 5)

    run = lab(leaking, b"0")
    run.step()
    assert run.execution.state.generation == 2
    assert not run.execution.completed("echo#1", 1, b"7", run.now)
    assert run.run().output == 5


@pytest.mark.parametrize("said", [{"failure": ev.Failure("not_answered")}, {"output": msgspec.Raw(b"7")}])
def test_an_answer_to_what_an_earlier_generation_gave_up_is_recorded_and_no_more(said: dict[str, Any]) -> None:
    """It was on its way when the call was cancelled."""
    run = Lab(app, impatient, b"0", answer=lambda p: ev.Failure("odd", retryable=False), signals=[("enough", b"1")])
    run.step()
    (task,) = [pending.task for pending in run.execution.state.calls.values()]
    assert task is not None
    run.step()
    assert run.execution.state.generation == 2
    late = ev.HumanTaskAnswered(call="echo#1", task=task, mail=2, by="ann", **said)
    assert run.execution.mailed(late, run.now)
    run._append()
    assert run.run().output == "done"
    replay_prefixes(app, "run-1", run.log)


heavy = App("heavy")


@heavy.agent
async def shorten(text: str) -> str:
    return text[:1]


@heavy.agent
async def lengthen(text: str) -> str:
    return text * 20_000


@heavy.workflow()
async def breathe(run: Run, left: int) -> int:
    await run.call(shorten, "first")
    await run.gather(*(run.start(shorten, letter * 30_000) for letter in "abcd"))
    await run.call(lengthen, "f")
    await run.call(shorten, "last")
    if left:
        run.restart(left - 1)
    return left


def test_a_run_changes_its_size_only_as_values_come_and_go() -> None:
    """Whoever weighs runs looks at one number, and weighs again when that has grown enough."""

    def work(pending: PendingCall) -> bytes:
        return b'"x"' if pending.target == "shorten" else msgspec.json.encode("f" * 20_000)

    lab = Lab(heavy, breathe, b"2", answer=work)
    size, traffic, shrank = lab.execution.size, lab.execution.traffic, 0
    while lab.step():
        grown, passed = lab.execution.size - size, lab.execution.traffic - traffic
        assert abs(grown) <= 2 * passed, "a value is counted once as the body has it, and once as it may be copied"
        shrank = max(shrank, -grown)
        size, traffic = size + grown, traffic + passed
    assert lab.output == 0
    assert shrank > 20_000
