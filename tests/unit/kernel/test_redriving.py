"""Redrive: a failed run goes on from the call that failed, and repeats nothing that completed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pointsman import App, Budget, CallError, Retry, Run
from pointsman.coordinator.driving.task_rows import OpenTasks
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog, RunEvicted
from pointsman.kernel.execution import Execution
from pointsman.kernel.history import History
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.redriving import facts_of, in_force, plan
from pointsman.kernel.requests import Produced
from pointsman.kernel.state import PendingCall
from pointsman.kernel.upcast import read_event
from pointsman.testing.replay import replay_prefixes
from tests.support.lab import Lab

app = App("redrive")
BOOM = ev.Failure("exception", "boom", retryable=False)


@app.agent(retry=Retry(attempts=1))
async def work(n: int) -> int:
    return n


@app.workflow()
async def chain(run: Run, n: int) -> list[int]:
    return [await run.call(work, n, key=key) for key in ("one", "two", "three")]


@app.workflow()
async def fan(run: Run, n: int) -> list[int]:
    calls = [run.start(work, n, key=key) for key in ("left", "risk", "right")]
    done = await run.gather(*calls)
    return [*done, await run.call(work, sum(done), key="sum")]


@app.workflow()
async def undoing(run: Run, n: int) -> int:
    try:
        return await run.call(work, n, key="charge")
    except CallError:
        await run.call(work, n, key="refund")
        raise


@app.workflow()
async def asking(run: Run, n: int) -> int:
    return await run.call(work, n, key="ask", person="How many?")


@app.workflow()
async def hearing(run: Run, n: int) -> list[Any]:
    first = await run.call(work, n, key="risk")
    return [first, await run.wait_for("word"), await run.wait_for("word")]


@app.workflow()
async def patient(run: Run, n: int) -> list[int]:
    odd = run.start(work, n, key="odd", person="How many?")
    try:
        first = await run.call(work, n, key="risk")
    except CallError:
        await run.wait_for("go")
        raise
    return [first, await odd]


@app.workflow()
async def both(run: Run, n: int) -> list[int]:
    try:
        return await run.gather(run.start(work, n, key="odd", person="How many?"), run.start(work, n, key="risk"))
    except CallError as error:
        if error.call == "risk":
            await run.wait_for("go")
        raise


@app.workflow()
async def wondering(run: Run, n: int) -> Any:
    try:
        return await run.call(work, n, key="risk")
    except CallError:
        question = run.start_ask("And now?", key="question")
        if await run.first(question, run.start_sleep(1)) is question:
            return (await question).value
        raise


class Script:
    """Agents that fail as told: by call, how many times."""

    def __init__(self, **fails: int) -> None:
        self.fails = fails
        self.made: list[tuple[str, int, str]] = []

    def __call__(self, pending: PendingCall) -> bytes | ev.Failure:
        self.made.append((pending.call, pending.attempt, pending.key))
        if self.fails.get(pending.call, 0) > 0:
            self.fails[pending.call] -= 1
            return BOOM
        return pending.data

    def count(self, call: str) -> int:
        return sum(made[0] == call for made in self.made)


def lab(workflow: Any, script: Callable[[PendingCall], bytes | ev.Failure], **more: Any) -> Lab:
    return Lab(app, workflow, b"5", answer=script, **more)


@pytest.mark.parametrize("evicting", [False, True])
def test_it_goes_on_from_the_failed_call_and_repeats_nothing(evicting: bool) -> None:
    script = Script(two=1)
    run = lab(chain, script, evict=lambda _: evicting).run()
    assert run.failure.kind == "exception"
    found = run.redrive()
    assert (found.calls, found.number) == (("two",), 1)
    assert isinstance(found.failed, ev.CallFailed)
    assert run.run().output == [5, 5, 5]
    assert [script.count(call) for call in ("one", "two", "three")] == [1, 2, 1]
    assert [made[1:] for made in script.made if made[0] == "two"] == [(1, "run-1/1/two"), (2, "run-1/1/two")]
    replay_prefixes(app, "run-1", run.log)


def test_calls_asked_for_after_it_have_keys_of_their_own() -> None:
    script = Script(two=1)
    run = lab(chain, script).run()
    run.redrive()
    run.run()
    assert script.made[-1] == ("three", 1, "run-1/1r1/three")


def test_a_fresh_key_is_for_agents_that_keep_their_failures() -> None:
    script = Script(two=1)
    run = lab(chain, script).run()
    run.redrive(has_fresh_key=True)
    run.run()
    assert [key for call, _, key in script.made if call == "two"] == ["run-1/1/two", "run-1/1/two/r1"]


def test_it_may_fail_and_be_redriven_again_and_again() -> None:
    script = Script(two=3, three=1)
    run = lab(chain, script).run()
    for number in range(1, 5):
        assert run.failure.kind == "exception"
        assert run.redrive().number == number
        run.run()
    assert run.output == [5, 5, 5]
    assert [script.count(call) for call in ("one", "two", "three")] == [1, 4, 2]
    assert [made[1] for made in script.made if made[0] == "two"] == [1, 2, 3, 4]
    replay_prefixes(app, "run-1", run.log)


def test_its_attempt_is_noted_before_it_begins() -> None:
    """An agent that must not be called twice is told apart from one that was not called since."""
    run = lab(chain, Script(two=1)).run()
    run.redrive()
    assert run.execution.state.calls["two"].held_at is not None
    run.execution.admitted("two", run.now)
    run._append()
    run._reload()
    assert run.execution.state.calls["two"].held_at is None


def test_what_ended_beside_the_failure_is_not_repeated() -> None:
    """An outcome recorded after the decisive failure, before the end: it still counts."""
    run = lab(fan, Script())
    execution = run.execution
    execution.attempt_failed("risk", 1, BOOM, run.now)
    execution.completed("left", 1, b"7", run.now)  # the body is over; its end is on the way
    run._append()
    assert run.types[-3:] == ["CallFailed", "CallCompleted", "RunFailed"]
    run.redrive()
    assert run.execution.state.calls.keys() == {"risk", "right"}
    assert run.run().output == [7, 5, 5, 17]
    replay_prefixes(app, "run-1", run.log)


def test_all_that_failed_beside_it_gets_fresh_attempts() -> None:
    script = Script()
    run = lab(fan, script)
    run.execution.attempt_failed("risk", 1, BOOM, run.now)
    run.execution.attempt_failed("right", 1, BOOM, run.now)
    run._append()
    assert set(run.redrive().calls) == {"risk", "right"}
    assert run.run().output == [5, 5, 5, 15]
    assert {(call, attempt) for call, attempt, _ in script.made} >= {("risk", 2), ("right", 2), ("left", 1)}
    replay_prefixes(app, "run-1", run.log)


def test_compensation_is_void_and_is_made_anew_under_another_key() -> None:
    script = Script(charge=2)
    run = lab(undoing, script).run()
    assert run.redrive().calls == ("charge",)
    run.run()
    assert run.failure.kind == "exception"
    refunds = [key for call, _, key in script.made if call == "refund"]
    assert refunds == ["run-1/1/refund", "run-1/1r1/refund"]
    run.redrive()
    assert run.run().output == 5
    assert script.count("refund") == 2
    replay_prefixes(app, "run-1", run.log)


def test_a_person_who_declined_is_asked_again_under_another_task() -> None:
    declined = ev.Failure("declined", "no idea", retryable=False)
    run = lab(asking, Script(ask=2), people=[declined, b"12"]).run()
    assert run.failure.kind == "declined"
    run.redrive()
    assert run.run().output == 12
    tasks = [msgspec.json.decode(row.body)["task"] for row in run.log if row.type == "HumanTaskOpened"]
    assert len(set(tasks)) == 2


def test_a_question_that_came_up_behind_the_failure_is_open_again() -> None:
    """The body went on for a while after the failure that ended it, and meanwhile a person was asked."""
    run = lab(patient, Script())
    run.execution.attempt_failed("risk", 1, BOOM, run.now)
    run._append()
    run.execution.attempt_failed("odd", 1, BOOM, run.now)
    run._append()
    run.execution.mailed(ev.SignalReceived(name="go", key="1", mail=1, payload=msgspec.Raw(b"1")), run.now)
    run._append()
    assert run.types[-1] == "RunFailed"
    opened = [msgspec.json.decode(row.body)["task"] for row in run.log if row.type == "HumanTaskOpened"]
    found = run.redrive()
    assert found.calls == ("risk",)
    assert [task.id for task in found.tasks] == opened
    assert run.execution.state.calls["odd"].task == opened[0]


def _questions(run: Lab) -> list[str]:
    return [msgspec.json.decode(row.body)["task"] for row in run.log if row.type == "HumanTaskRequested"]


@pytest.mark.parametrize("is_late", [False, True])
def test_an_answer_to_a_question_that_a_redrive_made_void_is_not_one_to_the_next(is_late: bool) -> None:
    """The body asks it anew, under the same call: another task."""
    run = lab(wondering, Script(risk=2)).run()
    run.redrive()
    (old,) = _questions(run)
    if not is_late:
        run.answer("question", old, b'"old"')
    run.step()
    assert _questions(run)[0] == old != _questions(run)[1]
    if is_late:
        run.answer("question", old, b'"old"')
    run._reload()
    run.answer("question", _questions(run)[1], b'"new"')
    assert run.output == "new"
    replay_prefixes(app, "run-1", run.log)


def test_an_answer_to_a_task_that_is_over_ends_no_fresh_attempt_and_is_no_failure_of_it() -> None:
    declined = ev.Failure("declined", "no idea", retryable=False)
    run = lab(asking, Script(ask=3), people=[declined]).run()
    run.redrive()
    (old,) = [msgspec.json.decode(row.body)["task"] for row in run.log if row.type == "HumanTaskOpened"]
    listed = OpenTasks(run.execution.state)
    run.answer("ask", old, declined)
    assert run.execution.state.calls.keys() == {"ask"}
    assert not History("run-1", run.log).has_outcome("ask"), "its input is still needed"
    misplaced = Produced(read_event(run.log[-1]), run.now, b"")
    listed.by_call["ask"] = "another"
    assert listed.rows([misplaced], 0) == ((), ())
    run._reload()
    run.execution.attempt_failed("ask", 2, BOOM, run.now)
    run._append()
    run._people.append(declined)
    run.step()
    assert run.failure.kind == "declined"
    found = run.redrive()
    assert found.failed is not None
    assert found.failed.task not in ("", old)
    assert run.execution.state.calls["ask"].attempt == 3
    run._people.append(b"12")
    assert run.run().output == 12


def test_a_call_under_way_has_not_failed_because_somebody_declines_an_earlier_task_of_it() -> None:
    declined = ev.Failure("declined", "no idea", retryable=False)
    run = lab(both, Script())
    run.execution.attempt_failed("odd", 1, BOOM, run.now)
    run._append()
    (old,) = [msgspec.json.decode(row.body)["task"] for row in run.log if row.type == "HumanTaskOpened"]
    run.answer("odd", old, declined)
    assert run.redrive().calls == ("odd",)
    run.execution.attempt_failed("risk", 1, BOOM, run.now)
    run._append()
    run.answer("odd", old, declined)
    run.signal("go")
    assert run.failure.kind == "exception"
    assert run.redrive().calls == ("risk",)
    assert run.run().output == [5, 5]


def test_mail_is_kept_and_folded_once() -> None:
    run = lab(hearing, Script())
    word = ev.SignalReceived(name="word", key="1", mail=1, payload=msgspec.Raw(b'"early"'))
    run.execution.mailed(word, run.now)
    run._append()
    run.execution.attempt_failed("risk", 1, BOOM, run.now)
    late = ev.SignalReceived(name="word", key="2", mail=2, payload=msgspec.Raw(b'"late"'))
    run.execution.mailed(late, run.now)
    run._append()
    assert run.failure.kind == "exception"
    run.redrive()
    assert not run.execution.mailed(late, run.now), "it is folded"
    assert run.run().output == [5, "early", "late"]
    assert run.execution.state.folded == 2
    replay_prefixes(app, "run-1", run.log)


def test_what_was_spent_stays_spent() -> None:
    run = lab(chain, Script(two=1), budget=Budget(usd=1.0), spent=Amount(usd_micros=15_000, calls=1)).run()
    before = run.execution.state.spent + run.execution.state.reserved
    assert before.usd_micros == 30_000
    run.redrive()
    assert (run.execution.state.spent, run.execution.state.reserved.usd_micros) == (before, 0)
    run.run()
    assert run.execution.state.spent.usd_micros == 60_000
    replay_prefixes(app, "run-1", run.log)


def test_what_was_set_aside_for_calls_under_way_counts_in_full_and_once() -> None:
    run = lab(fan, Script(), budget=Budget(usd=1.0))
    most = Amount(usd_micros=20_000, tokens=100, calls=1)
    for call in ("left", "risk", "right"):
        run.execution.reserve(call, most, (), run.now)
    run._append()
    cheap = Amount(usd_micros=5_000, calls=1)
    run.execution.attempt_failed("risk", 1, BOOM, run.now, spent=cheap)
    run.execution.completed("left", 1, b"7", run.now, spent=cheap)
    run._append()
    run.redrive()
    assert run.execution.state.spent.usd_micros == 5_000 + 5_000 + 20_000
    assert run.execution.state.reserved.usd_micros == 0


def test_a_run_that_failed_by_its_own_code_goes_on_with_other_code() -> None:
    is_broken = True

    @app.workflow()
    async def bugged(run: Run, n: int) -> int:
        m = await run.call(work, n)
        if is_broken:
            raise ValueError("a bug")
        return m + await run.call(work, n)

    script = Script()
    run = lab(bugged, script).run()
    assert "a bug" in run.failure.message
    assert run.redrive().failed is None
    run.run()
    assert "a bug" in run.failure.message, "with the same code it fails again"
    is_broken = False
    assert run.redrive().number == 2
    assert run.run().output == 10
    assert script.count("work#1") == 1


@pytest.mark.parametrize("with_same_code_first", [False, True])
def test_mail_that_came_before_the_end_was_recorded_is_not_where_a_bug_goes_on(with_same_code_first: bool) -> None:
    """Seed 1668: the mended code went on where the bug had been, and was stopped, for the log had mail there."""
    is_broken = True

    @app.workflow(name=f"bugged-{with_same_code_first}")
    async def bugged(run: Run, n: int) -> list[Any]:
        m = await run.call(work, n)
        if is_broken:
            raise ValueError("a bug")
        return [m, await run.call(work, n), await run.wait_for("word")]

    script = Script()
    run = lab(bugged, script)
    run.execution.completed("work#1", 1, b"5", run.now)
    run.execution.mailed(ev.SignalReceived(name="word", key="1", mail=1, payload=msgspec.Raw(b'"late"')), run.now)
    run._append()
    assert "a bug" in run.failure.message
    if with_same_code_first:
        run.redrive()
        run.execution.mailed(ev.SignalReceived(name="word", key="2", mail=2, payload=msgspec.Raw(b'"later"')), run.now)
        run.run()
        assert "a bug" in run.failure.message
    is_broken = False
    assert run.redrive().failed is None
    assert run.run().output == [5, 5, "late"]


def test_a_failure_of_a_caught_call_is_not_where_a_bug_goes_on() -> None:
    """The call failed, the body went on, and later its own code failed: what was done since stands."""
    is_broken = True

    @app.workflow()
    async def tolerant(run: Run, n: int) -> int:
        try:
            await run.call(work, n, key="optional")
        except CallError:
            n += 1
        n = await run.call(work, n, key="needed")
        if is_broken:
            raise ValueError("a bug")
        return n

    script = Script(optional=1)
    run = lab(tolerant, script).run()
    is_broken = False
    found = run.redrive()
    assert (found.failed, found.calls) == (None, ())
    assert run.output == 6
    assert (script.count("optional"), script.count("needed")) == (1, 1)


def test_an_agent_that_did_not_exist_is_called_once_it_does() -> None:
    other = App("later")

    @other.workflow()
    async def early(run: Run, n: int) -> int:
        m = await run.call("newcomer", n)
        return m + await run.call("newcomer", n)

    script = Script()
    run = Lab(other, early, b"5", answer=script).run()
    assert run.failure.kind == "unknown_agent"

    @other.agent
    async def newcomer(n: int) -> int:
        return n

    assert isinstance(run.redrive().failed, ev.CallRefused)
    assert run.run().output == 10
    replay_prefixes(other, "run-1", run.log)


def test_a_generation_after_a_redrive_knows_of_it() -> None:
    @app.workflow()
    async def looping(run: Run, n: int) -> int:
        await run.call(work, n, key="step")
        if n == 7:
            return n
        return run.restart(n + 1)

    script = Script(**{"step@2": 1})
    run = lab(looping, script).run()
    run.redrive()
    assert run.run().output == 7
    assert run.execution.state.redrives == 1
    assert script.made[-1][2] == "run-1/3r1/step@3"
    replay_prefixes(app, "run-1", run.log)


# -- children ---------------------------------------------------------------------------------------------------------


@app.workflow()
async def mother(run: Run, n: int) -> int:
    first = await run.call(work, n)
    return first + int(await run.call(chain, n) or 0)


def child_fails(run: Lab, spent: Amount) -> str:
    """The child's last word comes by mail. Returns which run it is."""
    call = "workflow:chain#1"
    child = run.execution.state.children[call]
    failed = ev.ChildEnded(call=call, mail=1, status="failed", run=child, failure=BOOM, spent=spent)
    assert run.execution.mailed(failed, run.now)
    run._append()
    return child


def test_a_failed_child_is_waited_for_anew_and_costs_what_it_costs_once() -> None:
    run = lab(mother, Script(), budget=Budget(usd=1.0), spent=Amount(usd_micros=10_000, calls=1))
    run.run()
    child = child_fails(run, Amount(usd_micros=100_000))
    assert run.failure.kind == "exception"
    found = run.redrive()
    assert found.failed_children == {"workflow:chain#1": child}
    state = run.execution.state
    assert state.spent.usd_micros + state.reserved.usd_micros == 10_000, "what a child uses up, it says once more"


def test_a_child_under_way_is_named() -> None:
    run = lab(mother, Script()).run()
    rows = [*run.log]
    failed = ev.encode_event(ev.RunFailed(failure=BOOM))
    rows.append(ev.Recorded(len(rows) + 1, run.now, "RunFailed", 1, failed))
    found = plan("run-1", facts_of(rows))
    assert found.open_children == {"workflow:chain#1": run.execution.state.children["workflow:chain#1"]}


# -- what the log must be ---------------------------------------------------------------------------------------------


def test_a_redrive_of_nothing_is_a_corrupt_log() -> None:
    run = lab(chain, Script(two=1)).run()
    body = ev.encode_event(ev.RunRedriven(number=1, after=99))
    rows = [*run.log, ev.Recorded(len(run.log) + 1, run.now, "RunRedriven", 1, body)]
    with pytest.raises(CorruptLog, match="after event 99"):
        in_force(facts_of(rows))


def test_a_redriven_body_that_asks_for_less_is_refused() -> None:
    """The requests behind a redrive are held against the code as all others are."""
    run = lab(chain, Script(two=1)).run()
    run.redrive()
    run.run()
    execution = Execution("run-1", undoing, app.directory)
    with pytest.raises((Exception, RunEvicted)):
        execution.replay(run.log)
