"""Event-driven runs, each driven through the kernel, and with the run leaving memory at any step."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pointsman import AgentRefused, App, Context, EndEvent, Run, StartRun
from pointsman.kernel import events as ev
from pointsman.kernel.errors import DeadEnd, InvalidInput, InvalidValue, LoopDetected, UnknownRun
from pointsman.kernel.state import PendingCall
from pointsman.stores.memory.store import MemoryStore
from tests.support.lab import Emitting, Lab

ALWAYS, NEVER = lambda step: True, lambda step: False
evicting = pytest.mark.parametrize("evict", [NEVER, ALWAYS], ids=["in memory", "replayed at each step"])
Evict = Callable[[int], bool]
Says = dict[str, list[tuple[str, Any]] | ev.Failure]
"""What each agent emits, or how it fails."""
BROKEN, REFUSED = ev.Failure("exception", "boom", retryable=False), ev.Failure("refused", "no", retryable=False)


def an_app(subscriptions: dict[str, list[str]], **settings: Any) -> App:
    app = App("events")
    for name, events in subscriptions.items():

        async def agent(said: Any) -> None: ...

        app.on(*events)(app.agent(name=name)(agent))
    app.events("begun", ends=["done"], **settings)
    return app


def a_run(app: App, says: Says, data: object = None, evict: Evict = NEVER) -> Lab:
    def answer(pending: PendingCall) -> ev.Failure | Emitting:
        said = says.get(pending.target, [])
        if isinstance(said, ev.Failure):
            return said
        return b"null", tuple(ev.Emission(event, msgspec.Raw(json.dumps(data).encode())) for event, data in said)

    workflow = app.directory.workflow("begun")
    assert workflow is not None
    return Lab(app, workflow, json.dumps(data).encode(), answer=answer, evict=evict)


def called(lab: Lab) -> list[tuple[str, Any]]:
    requests = [ev.decode_event(row) for row in lab.log if row.type == "CallRequested"]
    return [(event.target, msgspec.json.decode(event.input)) for event in requests]  # type: ignore[attr-defined]


@evicting
def test_each_event_triggers_each_subscriber_once(evict: Evict) -> None:
    app = an_app({"split": ["begun"], "count": ["part"], "log": ["begun", "part"], "join": ["counted"]})
    says: Says = {"split": [("part", 1), ("part", 2)], "count": [("counted", "x")], "join": [("done", "y")]}
    lab = a_run(app, says, 5, evict).run()
    assert lab.output == [{"event": "done", "data": "y", "by": "join"}] * 2
    parts = [(agent, part) for part in (1, 2) for agent in ("count", "log")]
    assert sorted(called(lab), key=str) == sorted(
        [("split", 5), ("log", 5), *parts, ("join", "x"), ("join", "x")], key=str
    )
    keys = [ev.decode_event(row).call for row in lab.log if row.type == "CallRequested"]  # type: ignore[attr-defined]
    assert len(set(keys)) == len(keys)


@evicting
@pytest.mark.parametrize(("failure", "event"), [(REFUSED, "agent.refused"), (BROKEN, "agent.crashed")])
def test_a_failure_is_an_event_and_takes_nothing_else_down(failure: ev.Failure, event: str, evict: Evict) -> None:
    app = an_app({"weak": ["begun"], "strong": ["begun"], "nurse": [event]})
    lab = a_run(app, {"weak": failure, "strong": [("done", 1)], "nurse": [("done", 2)]}, {"a": 1}, evict).run()
    assert [end["data"] for end in lab.output] == [1, 2] or [end["data"] for end in lab.output] == [2, 1]  # type: ignore[attr-defined]
    told = dict(called(lab))["nurse"]
    assert told.pop("message").endswith(failure.message)
    assert told == {"agent": "weak", "kind": failure.kind, "event": "begun", "data": {"a": 1}}


@evicting
def test_a_failure_that_nobody_subscribes_to_fails_the_run_when_the_rest_is_over(evict: Evict) -> None:
    app = an_app({"weak": ["begun"], "strong": ["begun"], "last": ["next"], "mourner": ["run.failed"]})
    says: Says = {"weak": BROKEN, "strong": [("next", 1)], "last": [("done", 2)], "mourner": [("begun", "again")]}
    lab = a_run(app, says, 3, evict).run()
    assert lab.failure.kind == "exception"
    assert [name for name, _ in called(lab)] == ["weak", "strong", "last", "mourner"]
    assert dict(called(lab))["mourner"]["event"] == "begun"


def test_a_failure_of_who_was_told_of_a_failure_is_told_to_nobody() -> None:
    app = an_app({"weak": ["begun"], "nurse": ["agent.crashed"]})
    lab = a_run(app, {"weak": BROKEN, "nurse": BROKEN}).run()
    assert lab.failure.message.startswith("agent.crashed/nurse/1")
    assert [name for name, _ in called(lab)] == ["weak", "nurse"]


def test_an_event_that_nobody_subscribes_to_is_a_dead_end() -> None:
    app = an_app({"one": ["begun"]})
    lab = a_run(app, {"one": [("doen", 1), ("done", 1)]}).run()
    assert lab.failure.kind == DeadEnd.code
    assert "one emitted doen, to which nobody subscribes" in lab.failure.message


@evicting
def test_once_the_run_is_bound_to_fail_nothing_new_begins(evict: Evict) -> None:
    """What began now would be begun again by a redrive, under another key: whoever charges a card would do it twice."""
    app = an_app({"one": ["begun"], "charge": ["next"]})
    lab = a_run(app, {"one": [("doen", 1), ("next", 2)], "charge": []}, evict=evict).run()
    assert lab.failure.kind == DeadEnd.code
    assert [name for name, _ in called(lab)] == ["one"]


def test_a_run_that_reaches_no_end_is_a_dead_end() -> None:
    lab = a_run(an_app({"one": ["begun"]}), {"one": []}).run()
    assert (lab.failure.kind, "done was not emitted" in lab.failure.message) == (DeadEnd.code, True)


def test_without_ends_a_run_is_over_when_nothing_is_under_way() -> None:
    app = an_app({"one": ["quiet"]})
    app.events("quiet")
    workflow = app.directory.workflow("quiet")
    assert workflow is not None
    assert Lab(app, workflow, answer=lambda pending: b"null").run().output == []


@evicting
def test_an_event_that_causes_itself_again_and_again_is_a_loop(evict: Evict) -> None:
    app = an_app({"ping": ["begun", "pong"], "pong": ["ping"]}, repeats_max=2)
    lab = a_run(app, {"ping": [("ping", 1)], "pong": [("pong", 1)]}, evict=evict).run()
    assert lab.failure.kind == LoopDetected.code
    assert lab.failure.message == "ping → pong → ping: 3 times with the same data, and repeats_max is 2"
    assert len(called(lab)) == 5


def test_the_same_event_of_several_is_no_loop() -> None:
    app = an_app({f"agent-{n}": ["begun"] for n in range(5)} | {"end": ["ready"]}, repeats_max=1)
    says: Says = {f"agent-{n}": [("ready", None)] for n in range(5)} | {"end": [("done", None)]}
    assert len(a_run(app, says).run().output) == 5  # type: ignore[arg-type]


def test_a_chain_that_goes_on_for_ever_meets_turns_max() -> None:
    app, count = an_app({"grow": ["begun", "grown"]}, turns_max=7), iter(range(100))

    def answer(pending: PendingCall) -> Emitting:
        return b"null", (ev.Emission("grown", msgspec.Raw(b"%d" % next(count))),)

    workflow = app.directory.workflow("begun")
    assert workflow is not None
    lab = Lab(app, workflow, answer=answer).run()
    assert (lab.failure.kind, len(called(lab))) == (LoopDetected.code, 7)
    assert "turns_max" in lab.failure.message


def test_an_open_run_keeps_to_who_subscribed_when_the_event_came() -> None:
    """A subscriber that is deployed later is for later events, and does not break the replay of earlier ones."""
    before, after = (
        {"one": ["begun"], "two": ["next"]},
        {"zero": ["begun"], "one": ["begun"], "two": ["next"], "six": ["next"]},
    )
    says: Says = {"one": [("next", 1)], "two": [("done", 2)]}
    lab = a_run(an_app(before), says, evict=ALWAYS)
    lab.app = an_app(after)
    assert lab.run().output == [{"event": "done", "data": 2, "by": "two"}]
    assert [name for name, _ in called(lab)] == ["one", "two", "six"]


def test_a_run_that_met_a_dead_end_is_redriven_with_a_new_subscriber() -> None:
    says: Says = {"one": [("next", 1)], "two": [("done", 2)]}
    lab = a_run(an_app({"one": ["begun"]}), says).run()
    assert lab.failure.kind == DeadEnd.code
    lab.app = an_app({"one": ["begun"], "two": ["next"]})
    lab.redrive()
    assert lab.run().output == [{"event": "done", "data": 2, "by": "two"}]
    assert [name for name, _ in called(lab)] == ["one", "two"]


# -- as an app -------------------------------------------------------------------------------------------------------


async def test_agents_emit_and_what_a_failed_attempt_emitted_does_not_count() -> None:
    app = App("desk")
    ends: list[list[EndEvent]] = []

    @app.on("ticket.opened")
    @app.agent(retry=None)
    async def classify(text: str, ctx: Context) -> str:
        ctx.emit("ticket.classified", {"text": text, "attempt": ctx.attempt, "more": True})
        if ctx.attempt == 1:
            ctx.emit("ticket.answered", "by mistake")
            raise ConnectionError
        return "billing"

    @app.on("ticket.classified")
    def answer(text: str, attempt: int, ctx: Context) -> None:
        if text == "no":
            raise AgentRefused
        ctx.emit("ticket.answered", EndEvent(text, attempt))

    @app.on("agent.refused")
    async def person(ctx: Context) -> None:
        ctx.emit("ticket.answered")

    tickets = app.events("ticket.opened", ends=["ticket.answered"])

    @app.workflow()
    async def batch(run: Run, texts: list[str]) -> None:
        ends.extend([await run.call(tickets, text) for text in texts])

    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun("batch", b'["hi","no"]', id="1"))
        await runs.wait("1", timeout_s=30)
    assert ends[0] == [EndEvent("ticket.answered", {"event": "hi", "data": 2, "by": ""}, "answer")]
    assert ends[1] == [EndEvent("ticket.answered", None, "person")]


async def test_data_that_a_subscriber_can_not_take_is_its_failure() -> None:
    app = App("desk")

    @app.on("ticket.opened")
    async def classify(number: Any, ctx: Context) -> None:
        ctx.emit("ticket.classified", number)

    @app.on("ticket.classified")
    async def answer(number: int, ctx: Context) -> None: ...

    app.events("ticket.opened")
    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun("ticket.opened", b'"seven"', id="1"))
        view = await runs.wait("1", timeout_s=30)
    assert view.failure is not None
    assert view.failure.kind == "invalid_input"


def a_desk(*, ends: tuple[str, ...] = (), generalist: str | None = None) -> App:
    app = App("desk", generalist=generalist)

    @app.on("ticket.opened")
    async def classify(number: int, kind: str) -> None: ...

    @app.on("ticket.opened")
    async def count(number: Any) -> None: ...

    @app.agent
    async def anything(said: Any) -> None: ...

    app.events("ticket.opened", ends=ends)
    return app


async def test_data_that_a_subscriber_can_not_take_begins_no_run() -> None:
    async with a_desk().running(MemoryStore()) as runs:
        for data in (b'"seven"', b'{"number":1}', b'{"number":"x","kind":"y"}'):
            with pytest.raises(InvalidInput, match=r"^ticket\.opened: its subscriber classify can't take it: "):
                await runs.start(StartRun("ticket.opened", data, id="1"))
        with pytest.raises(UnknownRun):
            await runs.get("1")
        await runs.start(StartRun("ticket.opened", b'{"number":1,"kind":"x","more":true}', id="1"))
        assert (await runs.wait("1", timeout_s=30)).failure is None


async def test_data_that_somebody_else_takes_begins_a_run() -> None:
    """Another agent in the subscriber's place, an end that is its failure, or who subscribes to that."""
    told = a_desk()
    told.on("agent.crashed")(told.agent(name="nurse")(an_agent))
    for app in (a_desk(generalist="anything"), a_desk(ends=("agent.crashed",)), told):
        async with app.running(MemoryStore()) as runs:
            await runs.start(StartRun("ticket.opened", b'"seven"', id="1"))
            assert (await runs.wait("1", timeout_s=30)).failure is None


async def test_a_body_reads_what_its_agents_emitted() -> None:
    app = App("plain")

    @app.agent
    async def look(ctx: Context) -> int:
        ctx.emit("seen", [1])
        ctx.emit("seen")
        return 1

    @app.workflow()
    async def watch(run: Run) -> list[Any]:
        handle = run.start(look)
        assert handle.emitted == ()
        return [await handle, [(emission.event, emission.value) for emission in handle.emitted]]

    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun("watch", b"null", id="1"))
        view = await runs.wait("1", timeout_s=30)
    assert view.output is not None
    assert msgspec.json.decode(view.output) == [1, [["seen", [1]], ["seen", None]]]


async def test_a_result_and_its_events_have_one_limit_together() -> None:
    app = App("tiny", value_bytes_max=100)

    @app.agent(fallback=[])
    async def talk(ctx: Context) -> str:
        ctx.emit("said", "x" * 60)
        return "y" * 60

    @app.workflow()
    async def hear(run: Run) -> str:
        said: str = await run.call(talk)
        return said

    async with app.running(MemoryStore()) as runs:
        await runs.start(StartRun("hear", b"null", id="1"))
        view = await runs.wait("1", timeout_s=30)
    assert view.failure is not None
    assert view.failure.kind == "output_too_large"


@pytest.mark.parametrize("event", ["", "Ticket", "a..b", "agent.crashed", "run.failed", "a" * 51, "a b", "a.b\n"])
def test_events_that_nobody_may_emit(event: str) -> None:
    context = Context("run", "call", 1, "key", 1, 0.0)
    with pytest.raises(InvalidValue):
        context.emit(event)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda app: app.on(), "names of events"),
        (lambda app: app.on(len), "names of events"),
        (lambda app: app.on("A.b")(app.agent(name="x")(an_agent)), "can't name an event"),
        (lambda app: app.on("a.b")(App("other").agent(an_agent)), "no agent of this app"),
        (lambda app: app.events("a.b", ends=["B"]), "can't name an event"),
        (lambda app: app.events("a.b", turns_max=0), "turns_max=0"),
        (lambda app: app.events("a.b", repeats_max=0), "repeats_max=0"),
        (lambda app: (app.events("a.b"), app.events("a.b")), "already"),
    ],
)
def test_declarations_that_are_refused(declare: Callable[[App], object], says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        declare(App("refused"))


async def an_agent(data: Any) -> None: ...
