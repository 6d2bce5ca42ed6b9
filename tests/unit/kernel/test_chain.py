"""The failure chain of a call: retry, the next agent, a person, the default, failure; each decision an event."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import App, Budget, CallError, Retry, Run
from pointsman.kernel import events as ev
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.kernel.state import PendingCall
from pointsman.testing.replay import replay_prefixes
from tests.support.lab import MOST, Lab

app = App("chain", generalist="jack")
TWICE = Retry(attempts=2, base=1.0)


@app.agent(retry=TWICE)
async def jack(order: int) -> int:
    """Of all trades."""
    return order


@app.agent(retry=TWICE, fallback=["second", "picky", "third"])
async def first(order: int) -> int:
    return order


@app.agent(retry=TWICE, fallback=["first"])
async def second(order: int) -> int:
    return order


@app.agent
async def picky(order: list[str]) -> int:
    """Takes no number."""
    return len(order)


@app.agent(retry=TWICE)
async def third(order: int) -> int:
    return order


@app.agent(idempotent=False, fallback=["third"], retry=TWICE)
async def careful(order: int) -> int:
    return order


@app.workflow()
async def usual(run: Run, n: int) -> int:
    return await run.call(first, n)  # type: ignore[no-any-return]


@app.workflow()
async def asking(run: Run, n: int) -> int:
    return await run.call(first, n, fallback=[], person="How many?")  # type: ignore[no-any-return]


@app.workflow()
async def asking_or_default(run: Run, n: int) -> int:
    return await run.call(first, n, fallback=[], person="How many?", default=-1)  # type: ignore[no-any-return]


@app.workflow()
async def defaulting(run: Run, n: int) -> int | None:
    return await run.call(first, n, fallback=["third"], default=None)  # type: ignore[no-any-return]


@app.workflow(turns_max=2)
async def restless(run: Run, n: int) -> int:
    return sum([await run.call(third, n + turn) for turn in range(n)])


@app.workflow()
async def plain(run: Run, n: int) -> int:
    return await run.call(third, n)  # type: ignore[no-any-return]


@app.workflow()
async def once_only(run: Run, n: int) -> int:
    return await run.call(careful, n)  # type: ignore[no-any-return]


@app.workflow()
async def patient(run: Run, n: int) -> str:
    try:
        await run.call(first, n, fallback=[])
    except CallError as error:
        return error.kind
    return "well"


def answers(**by_agent: bytes | ev.Failure) -> object:
    def answer(pending: PendingCall) -> bytes | ev.Failure:
        return by_agent.get(pending.target, ev.Failure("exception", f"{pending.target} is down"))

    return answer


def lab(name: str, **options: object) -> Lab:
    workflow = app.directory.workflow(name)
    assert workflow is not None
    return Lab(app, workflow, b"5", **{"answer": answers(), **options})  # type: ignore[arg-type]


def events(done: Lab, kind: type) -> list[ev.Event]:
    return [event for row in done.log if isinstance(event := ev.decode_event(row), kind)]


def test_the_next_agent_gets_the_call_after_the_retries_of_the_one_before() -> None:
    done = lab("usual", answer=answers(second=b"7")).run()
    assert done.output == 7
    [step] = events(done, ev.CallReassigned)
    assert isinstance(step, ev.CallReassigned)
    assert (step.agent, step.attempt, step.failure.kind) == ("second", 3, "exception")
    assert done.types[1:] == [
        "CallRequested", "AttemptFailed", "CallRetried", "AttemptFailed", "CallReassigned", "CallCompleted",
        "RunCompleted",
    ]  # fmt: skip


def test_the_chain_only_goes_forward_and_passes_over_who_cannot_take_the_input() -> None:
    done = lab("usual").run()
    steps = [step for step in events(done, ev.CallReassigned) if isinstance(step, ev.CallReassigned)]
    assert [step.agent for step in steps] == ["second", "third"]
    assert [reason.partition(":")[0] for reason in steps[1].passed_over] == ["picky"]
    assert done.failure.kind == "exception"
    assert "third is down" in done.failure.message


def test_without_a_chain_of_its_own_the_generalist_stands_in() -> None:
    done = lab("plain", answer=answers(jack=b"1")).run()
    assert done.output == 1


def test_a_person_is_asked_and_the_answer_is_the_result() -> None:
    done = lab("asking", people=[b"12"]).run()
    assert done.output == 12
    [task] = events(done, ev.HumanTaskOpened)
    assert isinstance(task, ev.HumanTaskOpened)
    assert (task.question, task.failure.kind) == ("How many?", "exception")
    waiting = lab("asking").run()
    assert waiting.execution.state.is_idle(), "a run that waits for a person can be parked"


def test_a_person_who_declines_fails_the_call() -> None:
    done = lab("asking", people=[ev.Failure("not_answered", "ask her", retryable=False)]).run()
    assert done.failure.kind == "not_answered"


def test_a_person_who_declines_leaves_the_default() -> None:
    done = lab("asking_or_default", people=[ev.Failure("not_answered", "ask her", retryable=False)]).run()
    assert done.output == -1


def test_the_default_may_be_none() -> None:
    done = lab("defaulting").run()
    assert done.output is None
    assert "CallSkipped" in done.types


def test_an_attempt_that_may_have_happened_is_not_repeated_elsewhere() -> None:
    done = lab("once_only", answer=answers(careful=ev.Failure("timeout", "no word"), third=b"1")).run()
    assert done.failure.kind == "timeout"
    assert "CallRetried" not in done.types
    certain = lab("once_only", answer=answers(careful=ev.Failure("exception", "before it began"), third=b"1")).run()
    assert certain.output == 1


def test_a_retry_budget_that_is_spent_sends_the_call_on() -> None:
    started = lab("usual")
    pending = started.execution.state.calls["first#1"]
    failure = ev.Failure("exception", "boom")
    assert started.execution.attempt_failed("first#1", pending.attempt, failure, started.now, may_retry=lambda: False)
    assert pending.target == "second"
    [step] = [p.event for p in started.execution.take() if isinstance(p.event, ev.CallReassigned)]
    assert step.failure.kind == "retry_budget_spent"


def test_what_is_held_back_uses_no_attempt() -> None:
    started = lab("usual")
    trouble = ev.Failure("breaker_open", "open", retryable=False)
    assert started.execution.reassign("first#1", trouble, started.now)
    pending = started.execution.state.calls["first#1"]
    assert (pending.target, pending.attempt, pending.first_attempt) == ("second", 1, 1)


def test_an_attempt_that_may_have_begun_keeps_its_number() -> None:
    started = lab("usual")
    trouble = ev.Failure("unhealthy", "ill", retryable=False)
    assert started.execution.reassign("first#1", trouble, started.now, begun=True)
    assert started.execution.state.calls["first#1"].attempt == 2


def test_a_run_makes_no_more_turns_than_it_may() -> None:
    done = lab("restless", answer=answers(third=b"1")).run()
    assert done.failure.kind == "loop_detected"
    assert done.types.count("CallRequested") == 2


def test_a_call_that_waits_says_so_once() -> None:
    started = lab("patient")
    trouble = ev.Failure("unhealthy", "ill", retryable=False)
    for _ in range(3):
        started.execution.held("first#1", trouble, started.now)
    assert [type(p.event) for p in started.execution.take()] == [ev.CallHeld]
    started.execution.give_up("first#1", trouble, started.now)
    assert started.execution.state.calls == {}
    started.execution.close_log(started.execution.last(started.now))
    assert started.output == "unhealthy"


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_each_kind_is_contained_to_its_step(kind: str) -> None:
    known = FAILURE_KINDS[kind]
    failure = ev.Failure(kind, known.meaning, retryable=known.retryable)
    done = lab("usual", answer=answers(first=failure, second=b"7")).run()
    assert done.output == 7
    assert ("CallRetried" in done.types) is known.retryable


def test_a_budget_is_set_aside_and_settled() -> None:
    done = lab("usual", answer=answers(first=b"1"), budget=Budget(usd=1.0), spent=Amount(usd_micros=5_000)).run()
    state = done.execution.state
    assert (state.spent, state.reserved) == (Amount(usd_micros=5_000), NOTHING)
    [reserved] = events(done, ev.CallReserved)
    assert isinstance(reserved, ev.CallReserved)
    assert reserved.amount == MOST


def test_an_attempt_beyond_the_budget_is_not_made() -> None:
    made: list[str] = []

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        made.append(pending.target)
        return ev.Failure("exception", "again")

    done = lab("patient", answer=answer, budget=Budget(usd=0.03), spent=Amount(usd_micros=15_000)).run()
    assert done.output == "budget_exceeded"
    assert made == ["first"], "0.015 of 0.03 is spent, and the second attempt could cost 0.02"


def test_an_unknown_end_counts_in_full() -> None:
    started = lab("usual", budget=Budget(usd=1.0))
    execution = started.execution
    execution.reserve("first#1", MOST, (), started.now)
    execution.reserve("first#1", MOST, (), started.now)  # a new owner, which can't know how the first ended
    assert (execution.state.spent, execution.state.reserved) == (MOST, MOST)
    execution.attempt_failed("first#1", 1, ev.Failure("timeout"), started.now, spent=None)
    assert (execution.state.spent, execution.state.reserved) == (MOST + MOST, NOTHING)


def test_more_than_the_most_is_an_event() -> None:
    done = lab("usual", answer=answers(first=b"1"), budget=Budget(usd=1.0), spent=Amount(usd_micros=50_000)).run()
    [over] = events(done, ev.CallOverspent)
    assert isinstance(over, ev.CallOverspent)
    assert (over.agent, over.spent.usd_micros, over.reserved) == ("first", 50_000, MOST)
    assert done.execution.state.spent == Amount(usd_micros=50_000)


def test_an_effect_is_in_the_log_and_invisible_to_the_body() -> None:
    started = lab("usual", answer=answers(first=b"1"))
    started.record_effect("first#1", "charge", b'{"receipt":7}')
    done = started.run()
    assert done.output == 1
    assert done.types[2] == "EffectRecorded"


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["usual", "asking", "asking_or_default", "defaulting", "plain", "once_only", "patient"]),
    kinds=st.lists(st.sampled_from([*FAILURE_KINDS, ""]), max_size=8),
    evicted=st.integers(0, 2**12 - 1),
    has_budget=st.booleans(),
)
def test_every_prefix_replays_and_eviction_changes_nothing(
    name: str, kinds: list[str], evicted: int, has_budget: bool
) -> None:
    def scripted() -> object:
        left = list(kinds)

        def answer(pending: PendingCall) -> bytes | ev.Failure:
            kind = left.pop(0) if left else ""
            known = FAILURE_KINDS.get(kind)
            return ev.Failure(kind, "as told", retryable=known.retryable) if known else msgspec.json.encode(3)

        return answer

    def told(**more: object) -> Lab:
        budget = Budget(usd=0.05, calls=3) if has_budget else None
        return lab(name, answer=scripted(), people=[b"9"], budget=budget, spent=Amount(10_000, 1, 1), **more).run()

    whole = told()
    broken = told(evict=lambda step: bool(evicted >> step % 12 & 1))
    assert [(row.type, row.body) for row in broken.log] == [(row.type, row.body) for row in whole.log]
    replay_prefixes(app, "run-1", whole.log)
