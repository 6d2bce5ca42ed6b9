"""Ways to coordinate agents, each driven through the kernel, and with the run leaving memory at any step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pointsman import App, Conversation, Plan, Run, Saga, Task, Thread, Verdict, fan_out, refine
from pointsman.kernel import events as ev
from pointsman.kernel.errors import FanOutFailed, InvalidPlan, InvalidValue, PlanFailed
from pointsman.kernel.state import PendingCall
from tests.support.lab import Lab

app = App("coordination")
ALWAYS, NEVER = lambda step: True, lambda step: False
evicting = pytest.mark.parametrize("evict", [NEVER, ALWAYS], ids=["in memory", "replayed at each step"])
Evict = Callable[[int], bool]


@app.agent
async def work(n: int) -> int:
    return n


@app.agent
async def book(what: str) -> str:
    return what


@app.agent
async def release(what: str) -> None: ...


@app.agent
async def write(request: str, previous: str | None, feedback: str) -> str:
    return request


@app.agent
async def judge(request: str, draft: str) -> Verdict:
    return Verdict(1.0)


@app.agent
async def reply(thread: Thread) -> str:
    return ""


@app.agent
async def summarise(thread: Thread) -> str:
    return ""


def failing(*bad: object) -> Callable[[PendingCall], bytes | ev.Failure]:
    """Agents give their argument back, but for these."""

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        first = json.loads(pending.data)
        return ev.Failure("broken", f"no {first}", retryable=False) if first in bad else json.dumps(first).encode()

    return answer


# -- fan-out ----------------------------------------------------------------------------------------------------------


@app.workflow()
async def spread(run: Run, at_once: int | None, at_least: int) -> list[Any]:
    try:
        fanned = await fan_out(run, work, [1, (2,), 3, 4, 5], at_once=at_once, at_least=at_least)
    except FanOutFailed as error:
        return [error.kind, str(error)]
    return [fanned.results, sorted(fanned.errors)]


@evicting
@pytest.mark.parametrize("at_once", [None, 2])
def test_one_that_fails_does_not_stop_the_others(at_once: int | None, evict: Evict) -> None:
    most = 0
    answer = failing(2, 4)

    def counted(pending: PendingCall) -> bytes | ev.Failure:
        nonlocal most
        most = max(most, len(lab.execution.state.calls))
        return answer(pending)

    lab: Lab
    lab = Lab(app, spread, b'{"at_once":%s,"at_least":3}' % json.dumps(at_once).encode(), answer=counted, evict=evict)
    assert lab.run().output == [[1, 3, 5], [1, 3]]
    assert most == (at_once or 5)


def test_fewer_than_must_is_a_failure_that_names_the_first() -> None:
    lab = Lab(app, spread, b'{"at_once":null,"at_least":4}', answer=failing(2, 4)).run()
    kind, message = lab.output  # type: ignore[misc]
    assert kind == "broken"
    assert "3 of 5 gave a result, 4 must; input 1: work: broken: no 2" in message


@pytest.mark.parametrize(("at_once", "at_least"), [(0, 1), (None, 6), (None, -1)])
def test_a_fan_out_that_cannot_be_is_refused(at_once: int | None, at_least: int) -> None:
    data = json.dumps({"at_once": at_once, "at_least": at_least}).encode()
    assert Lab(app, spread, data, answer=failing()).run().failure.kind == InvalidValue.code


# -- evaluation loop --------------------------------------------------------------------------------------------------


@app.workflow()
async def polish(run: Run) -> list[Any]:
    refined = await refine(run, write, judge, "poem", rounds_max=3)
    return [refined.best, refined.rounds, refined.accepted, refined.why]


def poet(scores: list[float], accepted: float = 9.0, fails: str = "") -> Callable[[PendingCall], bytes | ev.Failure]:
    rounds = Counter[str]()

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        if f"{pending.target}{rounds[pending.target]}" == fails:
            return ev.Failure("broken", "no ink", retryable=False)
        rounds[pending.target] += 1
        number = rounds[pending.target]
        if pending.target == "write":
            given = json.loads(pending.data)
            assert (given["previous"], given["feedback"]) == ((f"v{number - 1}", "rhyme") if number > 1 else (None, ""))
            return b'"v%d"' % number
        score = scores[number - 1]
        return json.dumps({"score": score, "accepted": score >= accepted, "feedback": "rhyme"}).encode()

    return answer


@evicting
@pytest.mark.parametrize(
    ("scores", "fails", "expected"),
    [
        ([1, 9.5], "", ["v2", 2, True, "accepted"]),
        ([5, 7, 6], "", ["v2", 3, False, "3 rounds are over"]),
        ([5, 5, 5], "", ["v1", 3, False, "3 rounds are over"]),
        ([5], "write1", ["v1", 1, False, "no further draft: write: broken: no ink"]),
        ([5], "judge1", ["v1", 2, False, "no verdict: judge: broken: no ink"]),
        ([], "judge0", ["v1", 1, False, "no verdict: judge: broken: no ink"]),
    ],
)
def test_the_best_draft_so_far_is_kept(scores: list[float], fails: str, expected: list[Any], evict: Evict) -> None:
    assert Lab(app, polish, b"{}", answer=poet(scores, fails=fails), evict=evict).run().output == expected


def test_without_a_first_draft_there_is_nothing() -> None:
    assert Lab(app, polish, b"{}", answer=poet([], fails="write0")).run().failure.kind == "broken"


# -- saga -------------------------------------------------------------------------------------------------------------


@app.workflow()
async def trip(run: Run, parts: list[str]) -> str:
    async with Saga(run) as saga:
        for part in parts:
            saga.undo(release, part)
            await run.call(book, part)
    return "booked"


def calls_of(lab: Lab) -> list[str]:
    called = [ev.decode_event(row) for row in lab.log if row.type == "CallRequested"]
    return [f"{c.target} {json.loads(bytes(c.input))}" for c in called if isinstance(c, ev.CallRequested)]


@evicting
def test_what_was_done_is_undone_in_reverse_order(evict: Evict) -> None:
    def answer(pending: PendingCall) -> bytes | ev.Failure:
        return b"null" if pending.target == "release" else failing("hotel")(pending)

    lab = Lab(app, trip, b'["flight","car","hotel"]', answer=answer, evict=evict).run()
    assert calls_of(lab) == ["book flight", "book car", "book hotel", "release hotel", "release car", "release flight"]
    assert lab.failure.kind == "broken"


@evicting
def test_a_saga_that_ends_well_undoes_nothing(evict: Evict) -> None:
    lab = Lab(app, trip, b'["flight","car"]', answer=failing(), evict=evict).run()
    assert lab.output == "booked"
    assert calls_of(lab) == ["book flight", "book car"]


@evicting
def test_a_cancelled_saga_is_undone_and_then_cancelled(evict: Evict) -> None:
    def answer(pending: PendingCall) -> bytes | ev.Failure:
        return b"null" if pending.target == "release" else b'"yes"'

    lab = Lab(app, trip, b'["flight","car"]', answer=answer, evict=evict)
    assert lab.step()
    lab.cancel()
    lab.run()
    assert calls_of(lab) == ["book flight", "book car", "release car", "release flight"]
    assert lab.types[-1] == "RunWasCancelled"


def test_what_can_not_be_undone_is_named_and_the_rest_is_undone() -> None:
    def answer(pending: PendingCall) -> bytes | ev.Failure:
        return failing("car", "hotel")(pending) if pending.target == "book" else refuse_car(pending)

    def refuse_car(pending: PendingCall) -> bytes | ev.Failure:
        return ev.Failure("gone", "closed", retryable=False) if b"car" in pending.data else b"null"

    lab = Lab(app, trip, b'["flight","car","hotel"]', answer=answer).run()
    assert calls_of(lab)[-2:] == ["release car", "release flight"]
    assert lab.failure.kind == "compensation_failed"
    assert lab.failure.message == "not undone: release: gone: closed; undone because of book: broken: no car"


# -- conversation -----------------------------------------------------------------------------------------------------


@app.workflow()
async def chat(run: Run, turns: int, is_summarised: bool) -> str:
    talk = Conversation(run, window=4, every=2, summariser=summarise if is_summarised else None)
    for turn in range(turns):
        talk.add("user", f"u{turn}")
        await talk.ask(reply)
    return talk.thread.summary


@evicting
@pytest.mark.parametrize("is_summarised", [True, False])
def test_an_agent_sees_the_latest_messages_and_a_summary_of_the_others(is_summarised: bool, evict: Evict) -> None:
    seen: list[tuple[str, list[str]]] = []

    def answer(pending: PendingCall) -> bytes:
        thread = json.loads(pending.data)
        said = [message["content"] for message in thread["messages"]]
        if pending.target == "summarise":
            return json.dumps(f"{thread['summary']}{'+'.join(said)} ").encode()
        seen.append((thread["summary"], said))
        return b'"a%d"' % (len(seen) - 1)

    data = json.dumps({"turns": 6, "is_summarised": is_summarised}).encode()
    lab = Lab(app, chat, data, answer=answer, evict=evict).run()
    everything = [name for turn in range(6) for name in (f"u{turn}", f"a{turn}")]
    for turn, (summary, said) in enumerate(seen):
        told = everything[: 2 * turn + 1]
        assert said == told[-len(said) :]
        assert min(4, len(told)) <= len(said) < 4 + 2
        fallen = told[: len(told) - len(said)]
        assert summary.replace("+", " ").split() == (fallen if is_summarised else [])
    assert lab.output == seen[-1][0]
    assert [len(said) for _, said in seen] == [1, 3, 5, 4, 4, 4]


def test_what_can_not_be_summarised_stays_in_view() -> None:
    shown: list[int] = []

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        if pending.target == "summarise":
            return ev.Failure("broken", "no words", retryable=False)
        shown.append(len(json.loads(pending.data)["messages"]))
        return b'"yes"'

    Lab(app, chat, b'{"turns":5,"is_summarised":true}', answer=answer).run()
    assert shown == [1, 3, 5, 7, 9]


# -- plan -------------------------------------------------------------------------------------------------------------

HOUSE = Plan([
    Task("roof", book, after=["walls"], arguments=lambda done: f"roof on {done['walls']}"),
    Task("walls", book, after=["ground"], arguments=lambda done: f"walls on {done['ground']}"),
    Task("ground", book, arguments=lambda done: f"{done['given']} ground"),
    Task("garden", book, after=["ground"], arguments=lambda done: "garden", if_failed="skip"),
    Task("party", book, after=["garden", "roof"], arguments=lambda done: "party"),
])  # fmt: skip


@app.workflow()
async def build(run: Run, where: str, at_once: int | None) -> list[Any]:
    try:
        executed = await HOUSE.execute(run, where, at_once=at_once)
    except PlanFailed as error:
        return ["failed", str(error)]
    return [executed.results, {name: str(error) for name, error in executed.failed.items()}, executed.skipped]


@evicting
@pytest.mark.parametrize("at_once", [None, 1])
def test_a_plan_is_done_in_the_order_of_its_needs(at_once: int | None, evict: Evict) -> None:
    data = json.dumps({"where": "dry", "at_once": at_once}).encode()
    lab = Lab(app, build, data, answer=failing(), evict=evict).run()
    results, failed, skipped = lab.output  # type: ignore[misc]
    assert results == {
        "ground": "dry ground", "garden": "garden", "walls": "walls on dry ground",
        "roof": "roof on walls on dry ground", "party": "party",
    }  # fmt: skip
    assert (failed, skipped) == ({}, {})
    assert calls_of(lab)[-1] == "book party"


@evicting
def test_a_task_may_fail_and_only_what_needs_it_is_skipped(evict: Evict) -> None:
    lab = Lab(app, build, b'{"where":"dry","at_once":null}', answer=failing("garden"), evict=evict).run()
    results, failed, skipped = lab.output  # type: ignore[misc]
    assert set(results) == {"ground", "walls", "roof"}
    assert failed == {"garden": "plan/garden: broken: no garden"}
    assert skipped == {"party": "it needs garden"}


CHAIN = Plan([
    Task("c", work, after=["b"]),
    Task("b", work, after=["a"]),
    Task("a", work, if_failed="skip"),
])  # fmt: skip


@app.workflow()
async def chained(run: Run, n: int) -> dict[str, str]:
    return (await CHAIN.execute(run, n)).skipped


def test_what_needs_what_is_skipped_is_skipped() -> None:
    assert Lab(app, chained, b"7", answer=failing(7)).run().output == {"b": "it needs a", "c": "it needs b"}


@evicting
def test_a_plan_that_stops_says_of_each_task_why_it_was_not_done(evict: Evict) -> None:
    answer = failing("walls on wet ground")
    lab = Lab(app, build, b'{"where":"wet","at_once":1}', answer=answer, evict=evict).run()
    said, message = lab.output  # type: ignore[misc]
    assert said == "failed"
    assert message == (
        "walls failed: plan/walls: broken: no walls on wet ground; roof was not done: it needs walls; "
        "garden was not done: walls failed, and the plan stops there; party was not done: it needs garden"
    )


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([Task("a", work), Task("a", work)], "one name"),
        ([Task("a", work, after=["b"])], "a needs b, and there is no such task"),
        ([Task("given", work)], "can't be named 'given'"),
        ([Task("a", work, after=["b"]), Task("b", work, after=["c"]), Task("c", work, after=["a"])], "a circle: "),
        ([Task("a", work, after=["a"])], "a circle: a is needed by a"),
    ],
)
def test_a_plan_that_can_not_be_done_is_refused_when_it_is_declared(tasks: list[Task], says: str) -> None:
    with pytest.raises(InvalidPlan, match=says):
        Plan(tasks)
