"""Ways to coordinate agents, each driven through the kernel, and with the run leaving memory at any step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pointsman import (
    App,
    Board,
    Conversation,
    Decision,
    Plan,
    Run,
    Saga,
    Task,
    Thread,
    Verdict,
    fan_out,
    refine,
    supervise,
)
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CallError, FanOutFailed, InvalidPlan, InvalidValue, LoopDetected, PlanFailed
from pointsman.kernel.execution import Execution
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


def test_a_judge_is_not_asked_where_evaluation_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.directory, "mode", "degraded")
    output = Lab(app, polish, b"{}", answer=poet([])).run().output
    assert output == [
        "v1",
        1,
        False,
        "no verdict: judge: omitted: judge is not asked for evaluation: the mode is degraded",
    ]


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


@app.workflow()
async def tour(run: Run, towns: list[str]) -> str:
    async with Saga(run) as saga:
        saga.undo(release, towns[0])
        await run.call(book, towns[0])
        if len(towns) > 1:
            run.restart(towns[1:])
    return "booked"


@evicting
def test_a_restart_leaves_a_saga_as_its_end_does_and_undoes_nothing(evict: Evict) -> None:
    lab = Lab(app, tour, b'["Rome","Bern"]', answer=failing(), evict=evict).run()
    assert calls_of(lab) == ["book Rome", "book Bern"]
    assert lab.output == "booked"


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


def test_nothing_is_summarised_where_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.directory, "mode", "degraded")
    lab = Lab(app, chat, b'{"turns": 6, "is_summarised": true}', answer=lambda pending: b'"well"').run()
    assert lab.output == ""
    assert "summarise" not in {pending.get("target") for pending in map(json.loads, (row.body for row in lab.log))}
    assert "CallOmitted" in lab.types


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
        assert len(said) == min(4, len(told))
        covered = summary.replace("+", " ").split()
        assert covered == (told[: len(covered)] if is_summarised else [])
        ahead = len(covered) - (len(told) - len(said))
        assert 0 <= ahead < 2 or not is_summarised, "what fell out of view is summarised, and each message once"
    assert lab.output == seen[-1][0]


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


FRAGILE = Plan([Task("a", work, retries=2), Task("b", work, after=["a"])], name="fragile")


@app.workflow()
async def fragile(run: Run, n: int) -> dict[str, int]:
    try:
        return (await FRAGILE.execute(run, n)).results
    except PlanFailed as error:
        return {str(error): 0}


@evicting
@pytest.mark.parametrize("failures", [0, 2, 3])
def test_a_task_is_tried_anew_so_often_as_it_says(failures: int, evict: Evict) -> None:
    left = failures

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        nonlocal left
        left -= 1
        return ev.Failure("broken", "no", retryable=False) if left >= 0 else b"1"

    lab = Lab(app, fragile, b"1", answer=answer, evict=evict).run()
    keys = ["fragile/a", "fragile/a/2", "fragile/a/3"][: failures + 1]
    if failures < 3:
        assert lab.output == {"a": 1, "b": 1}
        keys.append("fragile/b")
    else:
        (said,) = lab.output  # type: ignore[misc]
        assert said.startswith("a failed: fragile/a/3: broken")
    assert [ev.decode_event(row).call for row in lab.log if row.type == "CallRequested"] == keys  # type: ignore[attr-defined]


POLICIES = Plan(
    [
        Task("other hands", "clumsy", options={"fallback": ["work"]}),
        Task("a person", "clumsy", options={"fallback": [], "person": "what is it?"}),
        Task("a default", "clumsy", options={"fallback": [], "default": 7}),
    ],
    name="policies",
)


@app.agent
async def clumsy(n: int) -> int:
    return n


@app.workflow()
async def policies(run: Run, n: int) -> dict[str, int]:
    first = await POLICIES.execute(run, n)
    again = await Plan([Task("a", work)], name="again").execute(run, n)
    return first.results | again.results


@evicting
def test_a_task_is_reassigned_asked_of_a_person_or_done_without_as_its_options_say(evict: Evict) -> None:
    def answer(pending: PendingCall) -> bytes | ev.Failure:
        return ev.Failure("broken", "", retryable=False) if pending.target == "clumsy" else pending.data

    lab = Lab(app, policies, b"3", answer=answer, evict=evict, people=[b"5"]).run()
    assert lab.output == {"other hands": 3, "a person": 5, "a default": 7, "a": 3}


def test_a_log_of_before_plans_were_recorded_still_replays() -> None:
    lab = Lab(app, chained, b"7", answer=failing()).run()
    old = [row for row in lab.log if row.type != "PlanDeclared"]
    assert len(old) == len(lab.log) - 1
    for length in range(1, len(old) + 1):
        rows = [msgspec.structs.replace(row, sequence=number) for number, row in enumerate(old[:length], 1)]
        again = Execution("run-1", chained, app.directory)
        again.replay(rows)
        again.close()


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ([Task("a", work), Task("a", work)], "one name"),
        ([Task("a/b", work)], "can't be named"),
        ([Task("a", work, retries=-1)], "retries=-1"),
        ([Task("a", work, after=["b"])], "a needs b, and there is no such task"),
        ([Task("given", work)], "can't be named 'given'"),
        ([Task("a", work, after=["b"]), Task("b", work, after=["c"]), Task("c", work, after=["a"])], "a circle: "),
        ([Task("a", work, after=["a"])], "a circle: a is needed by a"),
        ([Task("t" * 124, work)], "of 129 characters, and the limit is 128"),
        ([Task("t" * 121, work, retries=99)], "of 130 characters"),
    ],
)
def test_a_plan_that_can_not_be_done_is_refused_when_it_is_declared(tasks: list[Task], says: str) -> None:
    with pytest.raises(InvalidPlan, match=says):
        Plan(tasks)


def test_the_longest_names_of_a_plan_make_ids_of_calls() -> None:
    plan = Plan([Task("t" * 123, work), Task("r" * 121, work, retries=8)])
    long = App("long")

    @long.workflow()
    async def planned(run: Run) -> int:
        return len((await plan.execute(run, 1)).results)

    lab = Lab(app, planned, b"{}", answer=lambda pending: b"1").run()
    assert lab.output == 2
    asked = [ev.decode_event(row) for row in lab.log if row.type == "CallRequested"]
    assert max(len(c.call) for c in asked if isinstance(c, ev.CallRequested)) == 128


# -- supervised routing -----------------------------------------------------------------------------------------------


@app.agent
async def chief(board: Board) -> Decision:
    return Decision()


@app.agent
async def add(a: int, b: int) -> int:
    return a + b


@app.workflow()
async def supervised(run: Run, turns_max: int, repeats_max: int) -> list[Any]:
    try:
        done = await supervise(
            run, chief, "sum", among=["work", add, "clumsy"], turns_max=turns_max, repeats_max=repeats_max
        )
    except (LoopDetected, CallError) as error:
        return [type(error).__name__, str(error)]
    return [done.result, done.why, [[turn.agent, turn.input, turn.result, turn.error] for turn in done.turns]]


def deciding(*decisions: dict[str, Any]) -> tuple[Callable[[PendingCall], bytes | ev.Failure], list[Any]]:
    """The chief decides so, the last for ever; and the boards that it saw."""
    boards: list[Any] = []

    def answer(pending: PendingCall) -> bytes | ev.Failure:
        given = json.loads(pending.data)
        if pending.target == "chief":
            boards.append(given)
            return json.dumps(decisions[min(len(given["turns"]), len(decisions) - 1)]).encode()
        if pending.target == "clumsy":
            return ev.Failure("broken", "my fault", retryable=False)
        return json.dumps(given["a"] + given["b"] if pending.target == "add" else given).encode()

    return answer, boards


@evicting
def test_a_supervisor_sees_every_turn_and_decides_until_it_is_done(evict: Evict) -> None:
    answer, boards = deciding(
        {"agent": "add", "input": {"a": 1, "b": 2}}, {"agent": "clumsy", "input": 3}, {"agent": "nobody"},
        {"agent": "work", "input": 4}, {"result": 5, "why": "enough"},
    )  # fmt: skip
    lab = Lab(app, supervised, b'{"turns_max":4,"repeats_max":1}', answer=answer, evict=evict).run()
    result, why, turns = lab.output  # type: ignore[misc]
    assert (result, why) == (5, "enough")
    assert turns == [
        ["add", {"a": 1, "b": 2}, 3, ""],
        ["clumsy", 3, None, "broken: clumsy: broken: my fault"],
        ["nobody", None, None, "nobody of that name; there are work, add, clumsy"],
        ["work", 4, 4, ""],
    ]
    assert [board["turns_left"] for board in boards] == [4, 3, 2, 1, 0]
    assert boards[1]["turns"][0]["result"] == 3


@evicting
@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (b'{"turns_max":3,"repeats_max":9}', "supervised: the run has made 3 calls, which is its turns_max; the last"),
        (
            b'{"turns_max":9,"repeats_max":2}',
            "agent 'work' was called 2 times with the same input, which is repeats_max",
        ),
    ],
)
def test_a_supervisor_that_never_ends_is_stopped(limits: bytes, says: str, evict: Evict) -> None:
    answer, _ = deciding({"agent": "work", "input": 1})
    kind, message = Lab(app, supervised, limits, answer=answer, evict=evict).run().output  # type: ignore[misc]
    assert kind == "LoopDetected"
    assert says in message
    assert message.endswith("work → work → work" + " → work" * (b"3" in limits))


def test_a_supervisor_that_fails_fails_the_run() -> None:
    lab = Lab(app, supervised, b'{"turns_max":3,"repeats_max":3}', answer=lambda _: ev.Failure("refused", "", False))
    assert lab.run().output[0] == "CallError"  # type: ignore[index]


@pytest.mark.parametrize("limits", [b'{"turns_max":0,"repeats_max":1}', b'{"turns_max":1,"repeats_max":0}'])
def test_limits_of_supervision_that_can_not_be_are_refused(limits: bytes) -> None:
    assert Lab(app, supervised, limits, answer=failing()).run().failure.kind == InvalidValue.code
