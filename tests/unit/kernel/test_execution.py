"""The kernel as a whole: every feature live, replayed from every prefix, and evicted at every await."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import App, NonDeterministicWorkflow, Run, SignalTimeout
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog, InvalidValue, RunEvicted, UnknownEvent
from pointsman.kernel.execution import Execution
from pointsman.kernel.state import PendingCall
from pointsman.kernel.upcast import read_event
from pointsman.testing.replay import replay_prefixes
from tests.support import programs
from tests.support.lab import Lab


def doubled(pending: PendingCall) -> bytes:
    if pending.target == "double":
        return msgspec.json.encode(2 * msgspec.json.decode(pending.data))
    return pending.data


def lab(name: str, data: bytes = b"null", **options: object) -> Lab:
    workflow = programs.app.directory.workflow(name)
    assert workflow is not None
    return Lab(programs.app, workflow, data, **{"answer": doubled, **options})  # type: ignore[arg-type]


def test_calls_one_after_the_other() -> None:
    done = lab("sequence", b"1").run()
    assert done.output == 16
    assert done.types == ["RunStarted", *["CallRequested", "CallCompleted"] * 4, "RunCompleted"]


def test_branches_name_their_calls_by_path() -> None:
    done = lab("parallel", b"3").run()
    assert done.output == {
        "sums": [2, 6, 12], "calls": [0, 2, 4], "winner": "double#2", "fastest": "review/1",
    }  # fmt: skip
    requested = {ev.decode_event(row).call for row in done.log if row.type == "CallRequested"}  # type: ignore[attr-defined]
    assert "review/3.deeper/1.deeper/1.double#1" in requested


def test_to_gather_nothing_is_a_list_of_nothing_and_the_first_of_nothing_is_refused() -> None:
    """A plan without tasks is a fan-out like any other."""
    app = App("empty")

    @app.workflow()
    async def empty(run: Run) -> list[int]:
        with pytest.raises(InvalidValue, match="wait for ever"):
            await run.first()
        return [*await run.gather(), *await run.gather(return_errors=True)]

    assert Lab(app, empty, answer=doubled).run().output == []


def test_signals_and_timers() -> None:
    done = lab("waiting", signals=[("early", b'"bird"'), ("order", b'{"id": 7}')]).run()
    assert isinstance(done.output, list)
    assert done.output[:3] == ["bird", 7, "timeout"]


def test_a_signal_that_does_not_fit_is_refused_where_it_is_awaited() -> None:
    done = lab("waiting", signals=[("early", b"1"), ("order", b'{"id": "no number"}')]).run()
    assert done.failure.kind == "invalid_input"


def test_selection_and_rerouting_are_recorded() -> None:
    done = lab("selecting").run()
    assert done.output == ["pack", "double", "generalist", "hello"]
    assert done.types.count("AgentSelected") == 3
    assert done.types.count("AgentRerouted") == 1


def test_retries_are_recorded_and_keep_their_key() -> None:
    keys = set()

    def flaky(pending: PendingCall) -> bytes | ev.Failure:
        keys.add(pending.key)
        return b"4" if pending.attempt == 3 else ev.Failure("exception", "boom")

    done = lab("failing", b"2", answer=flaky).run()
    assert done.output == "fine"
    assert done.types == [
        "RunStarted", "CallRequested", "AttemptFailed", "CallRetried", "AttemptFailed", "CallRetried", "CallCompleted",
        "RunCompleted",
    ]  # fmt: skip
    assert keys == {"run-1/1/charge"}


def test_a_call_that_fails_for_good_raises_in_the_body() -> None:
    done = lab("failing", b"2", answer=lambda pending: ev.Failure("refused", "no", retryable=False)).run()
    assert done.output == "refused at charge"
    assert "AttemptFailed" not in done.types


def test_cancel_is_delivered_and_a_shield_holds_it_back() -> None:
    run = lab("cleaning_up")
    run.cancel("closing time")
    run.run()
    outcome = run.execution.state.outcome
    assert isinstance(outcome, ev.RunWasCancelled)
    assert outcome.reason == "closing time"
    assert run.types == [
        "RunStarted", "TimerSet", "CancelRequested", "CallRequested", "CallCompleted", "RunWasCancelled",
    ]  # fmt: skip


def test_a_body_may_answer_a_cancel() -> None:
    run = lab("stubborn")
    run.cancel("why not")
    assert run.output == "cancelled: why not"


def test_awaiting_what_is_not_durable_is_refused_with_what_to_do() -> None:
    done = lab("foreign").run()
    assert done.failure.kind == "foreign_awaitable"
    assert "put it into an agent" in done.failure.message


def test_mail_between_the_end_of_the_body_and_its_record_is_kept() -> None:
    run = lab("sequence", b"1")
    for _ in range(3):
        run.step()
    pending = next(iter(run.execution.state.calls.values()))
    run.execution.completed(pending.call, 1, b"16", run.now)
    assert run.execution.ending is not None
    signal = ev.SignalReceived(name="late", key="k", mail=1)
    assert run.execution.mailed(signal, run.now)
    run._append()
    assert run.types[-3:] == ["CallCompleted", "SignalReceived", "RunCompleted"]
    replay_prefixes(run.app, "run-1", run.log)


SCENARIOS = {
    "sequence": (b"3", ()),
    "parallel": (b"3", ()),
    "waiting": (b"null", (("early", b"1"), ("order", b'{"id": 1}'))),
    "derived": (b"null", ()),
    "selecting": (b"null", ()),
    "large": (msgspec.json.encode("à propos " * 500), ()),
}


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=25, deadline=None)
@given(evictions=st.sets(st.integers(0, 40)))
def test_eviction_at_any_await_changes_nothing(name: str, evictions: set[int]) -> None:
    data, signals = SCENARIOS[name]
    stayed = lab(name, data, signals=signals).run()
    moved = lab(name, data, signals=signals, evict=evictions.__contains__).run()
    assert moved.log == stayed.log


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_prefix_replays_to_the_same_state(name: str) -> None:
    data, signals = SCENARIOS[name]
    done = lab(name, data, signals=signals).run()
    assert replay_prefixes(programs.app, "run-1", done.log) == done.execution.state


def test_eviction_runs_finally_and_nothing_of_it_counts() -> None:
    run = lab("cleaning_up")
    before = list(run.log)
    run.execution.close()
    assert run.execution.take() == []
    assert run.log == before


# -- change of code ----------------------------------------------------------------------------------------------------


def replayed_by(name: str, log: list[ev.Recorded]) -> Execution:
    workflow = programs.app.directory.workflow(name)
    assert workflow is not None
    execution = Execution("run-1", workflow, programs.app.directory)
    execution.replay(log)
    return execution


def test_other_code_is_refused_and_both_sides_are_shown() -> None:
    log = lab("sequence", b"1").run().log
    with pytest.raises(NonDeterministicWorkflow, match=r"CallRequested call='double#1'.*does RunFailed"):
        replayed_by("waiting", log)
    with pytest.raises(
        NonDeterministicWorkflow,
        match=r"the log has RunFailed \(foreign_awaitable: .*\); the code now does something else, and waits",
    ):
        replayed_by("stubborn", lab("foreign").log)


def test_both_sides_are_shown_when_a_call_was_put_in_between() -> None:
    log = lab("sequence", b"1").run().log
    with pytest.raises(
        NonDeterministicWorkflow, match=r"CallRequested call='double#1'.*does CallRequested call='charge'"
    ):
        replayed_by("failing", log)


def test_the_first_failure_is_raised_while_others_are_under_way() -> None:
    run = lab("parent", b"3")
    call = "workflow:sequence#2"
    failure = ev.Failure("refused")
    failed = ev.ChildEnded(call=call, mail=1, status="failed", run=run.execution.state.children[call], failure=failure)
    assert run.execution.mailed(failed, run.now)
    run._append()
    assert run.failure.kind == "refused"
    assert run.execution.state.children.keys() == {"workflow:sequence#1", "workflow:sequence#3"}


def test_code_that_no_longer_makes_a_pending_call_is_refused() -> None:
    @App("other").workflow(name="sequence")
    async def without(run: Run, n: int) -> str:
        return str(await run.wait_for("go"))

    log = lab("sequence", b"1").log
    assert log[-1].type == "CallRequested"
    with pytest.raises(NonDeterministicWorkflow, match=r"CallRequested call='double#1'.*does SignalAwaited"):
        Execution("run-1", without, programs.app.directory).replay(log)


@pytest.mark.parametrize("seconds", [-0.001, -5, -1e9])
def test_a_time_that_has_gone_negative_is_over_at_once(seconds: float) -> None:
    @App("other").workflow()
    async def late(run: Run) -> bool:
        await run.sleep(seconds)
        timer = run.start_sleep(seconds)
        is_first = await run.first(timer, run.start_sleep(1)) is timer
        with pytest.raises(SignalTimeout):
            await run.wait_for("go", timeout=seconds)
        return is_first

    run = Lab(programs.app, late, answer=doubled)
    started_at = run.now
    assert run.run().output is True
    assert run.now < started_at + 1000
    timers = [(event, row.at) for row in run.log if isinstance(event := read_event(row), ev.TimerSet)]
    assert all(timer.due >= at for timer, at in timers), "a timer is never due before it was set"
    for end in range(1, len(run.log) + 1):
        Execution("run-1", late, programs.app.directory).replay(run.log[:end])


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e10, "3", b"3", [], Decimal("nan")])
@pytest.mark.parametrize("what", ["sleep", "start_sleep", "wait_for"])
def test_what_is_no_time_is_refused_by_name(seconds: Any, what: str) -> None:
    @App("other").workflow()
    async def wrong(run: Run) -> None:
        match what:
            case "sleep":
                await run.sleep(seconds)
            case "start_sleep":
                run.start_sleep(seconds)
            case _:
                await run.wait_for("go", timeout=seconds)

    failure = Lab(programs.app, wrong, answer=doubled).run().failure
    assert failure.kind == "invalid_value"
    assert f"{seconds!r}): give a finite number of seconds" in failure.message


def test_a_sleep_without_a_time_is_refused_by_name() -> None:
    @App("other").workflow()
    async def wrong(run: Run) -> None:
        await run.sleep(None)  # type: ignore[arg-type]

    assert "sleep(None): give a finite number" in Lab(programs.app, wrong, answer=doubled).run().failure.message


def test_a_body_that_does_not_fit_its_log_is_refused_all_that_it_asks_for_meanwhile() -> None:
    refused = 0

    @App("other").workflow(name="sequence")
    async def other(run: Run, n: int) -> None:
        nonlocal refused
        timer = run.start_sleep(1)
        try:
            await run.call(programs.double, n + 1)
        finally:
            for ask in (lambda: run.start_sleep(1), lambda: run.start(programs.double, n), lambda: timer):
                try:
                    await ask()
                except RunEvicted:
                    refused += 1

    with pytest.raises(NonDeterministicWorkflow, match="pending call"):
        Execution("run-1", other, programs.app.directory).replay(lab("sequence", b"1").log)
    assert refused == 3


def test_a_result_for_a_call_that_was_given_up_is_not_even_read() -> None:
    @App("other").workflow()
    async def giving_up(run: Run, n: int) -> None:
        handle = run.start(programs.double, n)
        handle.cancel()
        await run.sleep(1)

    log = Lab(programs.app, giving_up, b"1", answer=doubled).log
    late = ev.encode_event(ev.CallCompleted("double#1", msgspec.Raw(b'"no number"')))
    execution = Execution("run-1", giving_up, programs.app.directory)
    execution.replay([*log, ev.Recorded(len(log) + 1, log[-1].at, "CallCompleted", 1, late)])
    assert execution.state.timers


def test_another_input_for_a_pending_call_stops_the_run_but_for_a_completed_one_warns() -> None:
    run = lab("sequence", b"1")
    equal = msgspec.structs.replace(run.log[1], body=run.log[1].body.replace(b'"input":1', b'"input": 1'))
    replayed_by("sequence", [run.log[0], equal])  # other bytes, equal value
    pending = [
        run.log[0],
        msgspec.structs.replace(run.log[1], body=run.log[1].body.replace(b'"input":1', b'"input":9')),
    ]
    with pytest.raises(NonDeterministicWorkflow, match="pending call"):
        replayed_by("sequence", pending)
    run.step()
    execution = replayed_by("sequence", [*pending, *run.log[2:]])
    assert "another input" in execution.warnings[0]


def test_a_hole_in_the_log_is_never_replayed_over() -> None:
    log = lab("sequence", b"1").run().log
    with pytest.raises(CorruptLog, match="event 3 is missing"):
        replayed_by("sequence", log[:2] + log[3:])


def test_an_event_about_a_call_that_was_never_made_is_corruption() -> None:
    log = lab("sequence", b"1").log
    stray = ev.Recorded(3, 0, "CallRetried", 1, b'{"call":"nobody#1","attempt":2}')
    with pytest.raises(CorruptLog, match="nobody#1"):
        replayed_by("sequence", [*log, stray])


def test_an_event_from_the_future_is_refused() -> None:
    log = lab("sequence", b"1").run().log
    with pytest.raises(UnknownEvent, match="newer release"):
        replayed_by("sequence", [*log[:2], msgspec.structs.replace(log[2], version=99)])


def test_a_handle_that_nobody_awaited_is_no_value_and_says_so() -> None:
    forgetful = App("forgetful")

    @forgetful.agent
    async def look(n: int) -> int:
        return n

    @forgetful.workflow()
    async def asks(run: Run) -> None:
        handle = run.start(look, 1)
        assert repr(handle) == "<Handle look#1 (agent), waiting>"
        await handle
        assert repr(handle) == "<Handle look#1 (agent), done>"
        await run.ask("is that right?", context=handle)

    lab = Lab(forgetful, asks, answer=lambda pending: pending.data).run()
    assert lab.failure.kind == InvalidValue.code
    assert lab.failure.message == "a Handle is not a JSON value: await it, and pass on what it gives"
