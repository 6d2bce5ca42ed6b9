"""The desk where calls wait for workers, in virtual time: under the real dispatcher, with workers that poll by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import msgspec
import pytest

from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL, Card
from pointsman.agents.schema import SchemaSignature
from pointsman.coordinator.driving.attempt import Attempt, Caller, PulledAttempt
from pointsman.coordinator.driving.dispatcher import Dispatcher
from pointsman.coordinator.driving.effects import Effects
from pointsman.coordinator.driving.tracebacks import Tracebacks
from pointsman.coordinator.gates.permit import Permit
from pointsman.kernel.events import Emission, Failure
from pointsman.kernel.policy.amounts import Amount
from pointsman.observe.stats import Stats
from pointsman.ports.mailbox import Mailbox
from pointsman.ports.workers import AttemptResult, Handed, HeldCall, Poll, StalePoll, WorkerFailure
from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.loop import SimLoop
from pointsman.transports.pull import PullTransport

SILENCE_S = 3.0
DONE = AttemptResult(b'"done"')


class FreePermit:
    """Of an agent without limits."""

    def ended(self, kind: str | None, seconds: float) -> None:
        self.seconds = seconds

    def release(self) -> None:
        pass


def agent(name: str = "gpu", **fields: Any) -> Agent:
    card = Card(**{"name": name, "transport": PULL, "timeout": 10.0, "hold": 60.0, **fields})
    return Agent(card, SchemaSignature(name, {}, {}, bytes_max=1_000))


class Desk:
    """A dispatcher and its desk, and what became of each attempt."""

    def __init__(self, loop: SimLoop, **settings: Any) -> None:
        self.transport = PullTransport(
            **{"silence_s": SILENCE_S, "queue_max": 5, "misses_max": 10, "bytes_max": 1_000, **settings}
        )
        self.loop = loop
        self.clock = SimClock(loop)
        self.dispatcher = Dispatcher(self.clock, Stats(), {PULL: self.transport}, Tracebacks(self.clock))
        self.dispatcher.start()
        self.ended: dict[HeldCall, list[bytes | Failure]] = {}
        self.spent: dict[HeldCall, Amount | None] = {}
        self.emitted: list[Emission] = []
        self.permit = FreePermit()

    def call(
        self, who: Agent, key: str = "r/1/c", number: int = 1, *, data: bytes = b"[1]",
        seconds_left: float | None = None,
    ) -> Attempt:  # fmt: skip
        def on_end(
            call: str, attempt: int, result: bytes | Failure, spent: Amount | None, emitted: tuple[Emission, ...] = ()
        ) -> None:
            self.ended.setdefault(HeldCall(call, attempt), []).append(result)
            self.spent[HeldCall(call, attempt)] = spent
            self.emitted += emitted

        effects = Effects(cast(Mailbox, None))
        caller = Caller("r", "default", "ask", 1, self.clock, effects, on_end)
        attempt = PulledAttempt(caller, who, key, key, number, permit=cast(Permit, self.permit))
        self.dispatcher.dispatch(attempt, data, seconds_left)
        return attempt

    def outcome(self, key: str = "r/1/c", attempt: int = 1) -> bytes | Failure:
        (result,) = self.ended[HeldCall(key, attempt)]
        return result

    def kind(self, key: str = "r/1/c", attempt: int = 1) -> str:
        outcome = self.outcome(key, attempt)
        assert isinstance(outcome, Failure), outcome
        return outcome.kind

    def finish(self, key: str = "r/1/c", attempt: int = 1, result: AttemptResult = DONE) -> bool:
        return self.transport.settle(key, attempt, result)


class Worker:
    """Polls by hand."""

    def __init__(self, desk: Desk, name: str, *agents: str, free: int = 1) -> None:
        self.desk = desk
        self.name = name
        self.agents = agents or ("gpu",)
        self.free = free
        self.number = 0
        self.holding: set[HeldCall] = set()

    async def poll(self, wait_s: float = 5.0, *, number: int | None = None, free: int | None = None) -> Handed:
        self.number = number if number is not None else self.number + 1
        room = self.free if free is None else free
        poll = Poll(self.number, self.agents, room, tuple(self.holding))
        handed = await self.desk.transport.poll(self.name, poll, wait_s)
        self.holding |= {HeldCall(call.key, call.attempt) for call in handed.calls}
        self.holding -= set(handed.over)
        return handed

    def polling(self, **more: Any) -> asyncio.Task[Handed]:
        return asyncio.create_task(self.poll(**more))


def keys(handed: Handed) -> list[str]:
    return [call.key for call in handed.calls]


Story = Callable[[Desk], Awaitable[None]]


def tell(story: Callable[[Desk], Coroutine[Any, Any, None]], seed: int = 1, **settings: Any) -> None:
    loop = SimLoop(random.Random(seed))
    asyncio.set_event_loop(loop)

    async def told() -> None:
        desk = Desk(loop, **settings)
        try:
            await story(desk)
        finally:
            await desk.dispatcher.stop()
            await desk.transport.close()

    try:
        loop.run_until_complete(told())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_call_goes_at_once_to_the_worker_that_waits_and_its_result_is_the_calls() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        poll = worker.polling()
        await asyncio.sleep(2)
        began = desk.loop.time()
        desk.call(agent())
        handed = await poll
        assert desk.loop.time() - began < 0.001, "a call waits for no interval"
        (call,) = handed.calls
        assert (call.agent, call.run, call.key, call.attempt, call.epoch) == ("gpu", "r", "r/1/c", 1, 1)
        assert (bytes(call.input), call.deadline_ms, call.tenant) == (b"[1]", 10_000, "default")
        assert desk.transport.workers()[0].holding == 1
        result = AttemptResult(
            b'{"b": 2, "a": 1}', usd=0.5, tokens=7, emitted=(Emission("work.done", msgspec.Raw(b"1")),)
        )
        assert desk.finish(result=result)
        assert not desk.finish(), "the first counts"
        await asyncio.sleep(0.1)
        assert desk.outcome() == b'{"a":1,"b":2}'
        assert desk.spent[HeldCall("r/1/c", 1)] == Amount(usd_micros=500_000, tokens=7, calls=1)
        assert [(emission.event, bytes(emission.data)) for emission in desk.emitted] == [("work.done", b"1")]
        assert not desk.finish(), "a second result is refused"

    tell(story)


def test_the_time_of_an_attempt_begins_when_a_worker_has_it() -> None:
    async def story(desk: Desk) -> None:
        desk.call(agent(timeout=1.0))
        await asyncio.sleep(20)
        worker = Worker(desk, "w")
        (call,) = (await worker.poll()).calls
        assert call.deadline_ms == 1_000
        await asyncio.sleep(0.9)
        assert desk.finish()
        await asyncio.sleep(0.1)
        assert desk.outcome() == b'"done"'
        assert desk.permit.seconds < 1, "what waits is not slow"

    tell(story)


def test_a_worker_that_takes_too_long_is_told_and_its_result_is_refused() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(timeout=2.0))
        await worker.poll()
        told = await worker.poll(free=0)
        assert told.over == (HeldCall("r/1/c", 1),)
        assert desk.kind() == "timeout"
        assert not desk.finish()

    tell(story)


def test_a_card_with_a_heartbeat_wants_signs_of_life_while_a_worker_is_at_it() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(heartbeat=1.0))
        await asyncio.sleep(5)
        await worker.poll()
        for _ in range(3):
            attempt = desk.dispatcher.find("r/1/c", 1)
            assert attempt is not None
            attempt.heartbeat()
            await asyncio.sleep(0.8)
        told = await worker.poll(free=0)
        assert told.over == (HeldCall("r/1/c", 1),)
        assert desk.kind() == "heartbeat_timeout"

    tell(story)


def test_a_call_that_no_worker_takes_goes_on_without_one() -> None:
    async def story(desk: Desk) -> None:
        desk.call(agent(hold=4.0))
        await asyncio.sleep(3.9)
        assert desk.transport.waiting() == {"gpu": 1}
        await asyncio.sleep(0.2)
        assert desk.kind() == "no_worker"
        assert desk.transport.waiting() == {}

    tell(story)


def test_as_many_wait_as_may_and_the_next_is_refused_at_once() -> None:
    async def story(desk: Desk) -> None:
        for n in range(7):
            desk.call(agent(), f"r/1/{n}")
        await asyncio.sleep(0.1)
        assert {key: desk.kind(key) for key, _ in map(msgspec.structs.astuple, desk.ended)} == {
            key: "no_worker" for key, _ in map(msgspec.structs.astuple, desk.ended)
        }
        assert len(desk.ended) == 2
        assert desk.transport.waiting() == {"gpu": 5}

    tell(story)


def test_what_a_worker_held_and_dropped_without_a_word_has_failed() -> None:
    """Handed out again, an attempt whose result can't be brought would be made for ever, and never counted."""

    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent())
        await worker.poll()
        assert (await worker.poll(0)).calls == (), "it says that it has it"
        worker.holding.clear()
        assert (await worker.poll(0)).calls == ()
        await asyncio.sleep(0.1)
        assert desk.kind() == "worker_lost"

    tell(story)


@pytest.mark.parametrize("free", [0, 1])
def test_hold_ends_a_call_whose_answers_never_arrive(free: int) -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(hold=10.0))
        while desk.loop.time() < 9.0:
            await worker.poll(0)
            worker.holding.clear()
            await worker.poll(0, free=free)
            worker.holding.clear()
            assert not desk.ended
            await asyncio.sleep(0.7)
        await asyncio.sleep(1.5)
        await worker.poll(0)
        await asyncio.sleep(0.1)
        assert desk.kind() == "no_worker"
        assert desk.transport.waiting() == {}
        assert desk.transport.workers()[0].holding == 0

    tell(story, misses_max=1_000)


def test_a_call_that_never_comes_where_there_is_room_for_it_is_in_the_way_for_a_while() -> None:
    """Of a long `hold`: what comes before all others would keep them all from their workers."""

    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(hold=100_000.0, idempotent=False), "r/1/poison")
        await asyncio.sleep(0.1)
        desk.call(agent(hold=100_000.0), "r/1/next")
        await asyncio.sleep(0.1)
        for _ in range(3):
            assert keys(await worker.poll(0)) == ["r/1/poison"]
            worker.holding.clear()
        assert keys(await worker.poll(0)) == ["r/1/next"]
        await asyncio.sleep(0.1)
        assert desk.kind("r/1/poison") == "no_worker"
        assert desk.finish("r/1/next")

    tell(story, misses_max=3)


def test_a_call_that_a_worker_had_no_room_for_is_no_miss() -> None:
    """Several coordinators may hand over at once what there is one place for; however often that is."""

    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(hold=100_000.0))
        await asyncio.sleep(0.1)
        for _ in range(20):
            assert keys(await worker.poll(0)) == ["r/1/c"]
            worker.holding.clear()
            assert keys(await worker.poll(0, free=0)) == []
            assert not desk.ended
        assert keys(await worker.poll(0)) == ["r/1/c"]
        assert desk.finish()

    tell(story, misses_max=1)


def test_what_is_given_back_waits_anew() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        desk.call(agent(timeout=600.0, hold=5.0))
        await worker.poll()
        for _ in range(5):
            await worker.poll(2.0, free=0)
        assert desk.transport.leave("w")
        await asyncio.sleep(1.0)
        assert not desk.ended, "its time in line begins again: it was taken in time"
        assert keys(await other.poll()) == ["r/1/c"]

    tell(story)


def test_a_call_that_a_worker_is_at_already_needs_no_place_in_line() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        worker.holding = {HeldCall("r/1/held", 1)}
        await worker.poll(0, free=0)
        for n in range(5):
            desk.call(agent(), f"r/1/{n}")
        await asyncio.sleep(0.1)
        desk.call(agent(), "r/1/held")
        await asyncio.sleep(0.1)
        assert not desk.ended
        assert desk.finish("r/1/held")

    tell(story)


def test_a_worker_that_leaves_while_it_polls_is_given_nothing_more() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        polling = worker.polling()
        await asyncio.sleep(0.1)
        assert desk.transport.leave("w")
        desk.call(agent(idempotent=False))
        assert await polling == Handed()
        await asyncio.sleep(SILENCE_S + 1)
        assert desk.transport.lost == 0
        assert not desk.ended

    tell(story)


def test_a_silent_worker_is_lost_and_comes_back_to_nothing() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        desk.call(agent())
        await worker.poll()
        await asyncio.sleep(SILENCE_S - 0.1)
        assert not desk.ended
        await asyncio.sleep(0.2)
        assert desk.kind() == "worker_lost"
        assert desk.transport.lost == 1
        desk.call(agent(), number=2)
        assert keys(await other.poll()) == ["r/1/c"]
        assert not desk.finish(attempt=1), "stopped, and continued later: a stale attempt"
        assert (await worker.poll()).over == (HeldCall("r/1/c", 1),)
        assert desk.finish(attempt=2)

    tell(story)


def test_a_worker_that_polls_is_never_lost() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent(timeout=100.0))
        await worker.poll()
        for _ in range(10):
            await worker.poll(free=0)
            await asyncio.sleep(SILENCE_S - 0.1)
        assert not desk.ended
        assert desk.transport.lost == 0

    tell(story)


def test_an_answer_that_never_arrived_is_given_again_as_the_same_attempt() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        desk.call(agent(idempotent=False))
        await worker.poll()
        worker.holding.clear()
        waits = other.polling()
        await asyncio.sleep(0.1)
        again = worker.polling()
        assert keys(await waits) == ["r/1/c"], "whoever waits has it"
        assert desk.finish()
        assert (await again).calls == ()

    tell(story)


def test_a_later_poll_ends_the_one_that_waits_and_an_earlier_one_is_refused() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        first = worker.polling()
        await asyncio.sleep(0.1)
        second = worker.polling()
        assert await first == Handed()
        with pytest.raises(StalePoll):
            await worker.poll(number=1)
        began = desk.loop.time()
        desk.call(agent())
        assert keys(await second) == ["r/1/c"]
        assert desk.loop.time() - began < 0.001, "the one that was ended is not in its way"

    tell(story)


def test_what_was_to_be_said_to_a_poll_whose_client_went_goes_to_another() -> None:
    went_in_time = 0

    async def story(desk: Desk, ticks: int) -> None:
        nonlocal went_in_time
        gone = Worker(desk, "a").polling()
        await asyncio.sleep(0.1)
        waits = Worker(desk, "b").polling()
        await asyncio.sleep(0.1)
        desk.call(agent())
        for _ in range(ticks):
            await asyncio.sleep(0)
        was_handed = bool(desk.transport.workers()[0].holding) and not gone.done()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if gone.cancelled():
            went_in_time += was_handed
            went_at = desk.loop.time()
            assert keys(await waits) == ["r/1/c"]
            assert desk.loop.time() - went_at < 0.001
        else:
            assert keys(gone.result()) == ["r/1/c"]
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)

    for ticks in range(12):
        for seed in range(5):
            tell(lambda desk, ticks=ticks: story(desk, ticks), seed)  # type: ignore[misc]
    assert went_in_time, "between being handed a call and being answered"


def test_the_next_owner_takes_the_result_of_the_worker_that_is_at_it_already() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        worker.holding = {HeldCall("r/1/c", 3)}  # from a coordinator that died
        busy, idle = worker.polling(free=0), other.polling()
        await asyncio.sleep(0.1)
        desk.call(agent(), number=3)
        assert await busy == Handed(), "it is asked whether it is still at it"
        busy = worker.polling(free=0)
        assert (await idle).calls == (), "nobody else is given it"
        assert desk.finish(attempt=3)
        await asyncio.sleep(0.1)
        assert desk.outcome(attempt=3) == b'"done"'
        assert await busy == Handed()

    tell(story)


def test_what_a_worker_no_longer_holds_when_the_next_owner_lays_it_out_waits_for_another() -> None:
    """It brought the result, and the coordinator died before it was recorded: none of that is the attempt's fault."""

    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        worker.holding = {HeldCall("r/1/c", 3)}
        told = worker.polling()
        await asyncio.sleep(0.1)
        worker.holding.clear()  # brought elsewhere; nobody tells of that
        began = desk.loop.time()
        desk.call(agent(hold=0.5), number=3)
        assert await told == Handed(), "it is to say anew what it holds"
        waits = other.polling()
        await asyncio.sleep(0.1)
        worker.free = 0
        again = worker.polling()
        assert keys(await waits) == ["r/1/c"]
        assert desk.loop.time() - began < 0.2, "nor does it wait for the end of a poll"
        assert not desk.ended
        assert desk.finish(attempt=3)
        await again

    tell(story)


def test_the_time_in_line_of_what_a_worker_held_before_begins_when_it_is_known_that_it_does_not() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        worker.holding = {HeldCall("r/1/c", 3)}
        await worker.poll(0)
        desk.call(agent(hold=0.5), number=3)
        await asyncio.sleep(1.0)
        worker.holding.clear()
        assert keys(await worker.poll(0)) == ["r/1/c"]

    tell(story)


def test_what_must_not_be_repeated_is_lost_when_its_worker_no_longer_holds_it() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        worker.holding = {HeldCall("r/1/c", 3)}
        told = worker.polling()
        await asyncio.sleep(0.1)
        worker.holding.clear()
        desk.call(agent(idempotent=False), number=3)
        await told
        assert (await worker.poll(0)).calls == (), "it may have been made"
        await asyncio.sleep(0.1)
        assert desk.kind(attempt=3) == "worker_lost"

    tell(story)


def test_what_is_taken_from_a_worker_that_held_it_before_has_failed_when_it_drops_it_after() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        worker.holding = {HeldCall("r/1/c", 3)}
        told = worker.polling()
        await asyncio.sleep(0.1)
        desk.call(agent(), number=3)
        await told
        assert (await worker.poll(0)).calls == (), "it says so once more"
        worker.holding.clear()
        assert (await worker.poll(0)).calls == ()
        await asyncio.sleep(0.1)
        assert desk.kind(attempt=3) == "worker_lost"

    tell(story)


def test_a_worker_that_comes_later_with_a_call_that_waits_keeps_it() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        desk.call(agent(), number=2)
        await asyncio.sleep(0.1)
        worker.holding = {HeldCall("r/1/c", 2)}
        assert (await worker.poll(wait_s=0)).calls == ()
        assert (await other.poll(wait_s=1)).calls == ()
        assert desk.finish(attempt=2)

    tell(story)


def test_a_second_worker_at_one_attempt_is_told_to_stop() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w"), Worker(desk, "o")
        desk.call(agent())
        await worker.poll()
        other.holding = {HeldCall("r/1/c", 1)}
        assert (await other.poll()).over == (HeldCall("r/1/c", 1),)
        assert desk.finish()

    tell(story)


def test_what_is_let_go_is_kept_for_the_next_owner_and_what_is_abandoned_is_ended() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w", free=2)
        kept, ended = desk.call(agent(), "r/1/kept"), desk.call(agent(), "r/1/ended")
        await asyncio.sleep(0.1)
        while len(worker.holding) < 2:
            await worker.poll(0)
        kept.let_go()
        ended.abandon()
        assert (await worker.poll(free=0)).over == (HeldCall("r/1/ended", 1),)
        desk.call(agent(), "r/1/kept")  # this coordinator owns the run again
        assert (await worker.poll(1)).calls == (), "it is at it already"
        assert desk.finish("r/1/kept")

    tell(story)


def test_a_worker_that_leaves_gives_back_what_may_be_repeated() -> None:
    async def story(desk: Desk) -> None:
        worker, other = Worker(desk, "w", free=2), Worker(desk, "o")
        desk.call(agent(), "r/1/again")
        desk.call(agent(idempotent=False), "r/1/once")
        await asyncio.sleep(0.1)
        while len(worker.holding) < 2:
            await worker.poll(0)
        assert desk.transport.leave("w")
        assert keys(await other.poll()) == ["r/1/again"]
        await asyncio.sleep(0.1)
        assert desk.kind("r/1/once") == "worker_lost"
        assert not desk.transport.leave("w")
        assert desk.transport.lost == 0

    tell(story)


def test_what_waits_is_shared_among_workers_and_oldest_first_over_agents() -> None:
    async def story(desk: Desk) -> None:
        one, two = Worker(desk, "one", "gpu", "cpu", free=10), Worker(desk, "two", "gpu", "cpu", free=10)
        assert await two.poll(0) == Handed()
        for n in range(4):
            desk.call(agent("cpu" if n % 2 else "gpu"), f"r/1/{n}")
            await asyncio.sleep(0.01)
        # What `two` could not be handed yet is not all taken by who comes first.
        assert keys(await one.poll()) == ["r/1/0", "r/1/1"]
        assert keys(await two.poll(0)) == ["r/1/2", "r/1/3"]
        assert desk.transport.connected() == {"cpu": 2, "gpu": 2}

    tell(story)


def test_the_oldest_call_goes_first_whichever_its_agent() -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w", "gpu", "cpu")
        for n in range(6):
            desk.call(agent("cpu" if n % 2 else "gpu"), f"r/1/{n}")
            await asyncio.sleep(0.01)
        assert [keys(await worker.poll(0))[0] for _ in range(6)] == [f"r/1/{n}" for n in range(6)]

    tell(story, queue_max=10)


@pytest.mark.parametrize("is_waiting", [False, True])
@pytest.mark.parametrize(("size", "at_once"), [(400_000, 3), (900_000, 2), (5_000_000, 1)])
def test_one_answer_has_about_a_megabyte_of_calls_and_at_least_one(size: int, at_once: int, is_waiting: bool) -> None:
    """Whether they waited for the poll or it for them."""

    async def story(desk: Desk) -> None:
        worker, all_keys = Worker(desk, "w", free=7), [f"r/1/{n}" for n in range(7)]
        poll = worker.polling() if is_waiting else None
        await asyncio.sleep(0.1)
        for key in all_keys:
            desk.call(agent(), key, data=b'"' + b"x" * size + b'"')
        await asyncio.sleep(0.1)
        answers = [await poll] if poll is not None else []
        while sum(len(answer.calls) for answer in answers) < len(all_keys):
            worker.free = 7 - len(worker.holding)
            answers.append(await worker.poll(0))
            assert answers[-1].calls
        told = [keys(answer) for answer in answers]
        assert sorted(key for some in told for key in some) == all_keys
        assert {len(some) for some in told[:-1]} == {at_once}

    tell(story, queue_max=10)


def test_the_worker_with_the_least_to_do_is_asked_first() -> None:
    async def story(desk: Desk) -> None:
        busy, idle = Worker(desk, "busy", free=3), Worker(desk, "idle", free=3)
        desk.call(agent(), "r/1/0")
        await asyncio.sleep(0.1)
        await busy.poll()
        first = busy.polling()
        await asyncio.sleep(0.1)
        second = idle.polling()
        await asyncio.sleep(0.1)
        desk.call(agent(), "r/1/1")
        assert keys(await second) == ["r/1/1"]
        assert (await first).calls == ()

    tell(story)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("card_declined", "card_declined"), ("refused", "refused"), ("timeout", "timeout"),
        ("budget_exceeded", "exception"), ("Bad kind!", "exception"),
    ],
)  # fmt: skip
def test_a_workers_failure_is_of_a_kind_that_it_may_name(said: str, kind: str) -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent())
        await worker.poll()
        failure = WorkerFailure(said, "no", retryable=False, retry_after_s=2.0)
        assert desk.finish(result=AttemptResult(failure=failure))
        await asyncio.sleep(0.1)
        outcome = desk.outcome()
        assert isinstance(outcome, Failure)
        assert (outcome.kind, outcome.message, outcome.retryable) == (kind, "no", False)
        assert outcome.retry_after_ms == 2_000

    tell(story)


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (AttemptResult(b"{"), "malformed_output"),
        (AttemptResult(b"9007199254740993"), "invalid_output"),
        (AttemptResult(b'"' + b"x" * 1_001 + b'"'), "output_too_large"),
        (AttemptResult(b"1", emitted=(Emission("agent.gone", msgspec.Raw(b"1")),)), "invalid_output"),
        (AttemptResult(b"1", emitted=(Emission("a", msgspec.Raw(b"1" * 1_000)),)), "output_too_large"),
    ],
)
def test_a_result_that_cant_be_recorded_is_a_failure(result: AttemptResult, kind: str) -> None:
    async def story(desk: Desk) -> None:
        worker = Worker(desk, "w")
        desk.call(agent())
        await worker.poll()
        assert desk.finish(result=result)
        await asyncio.sleep(0.1)
        assert desk.kind() == kind

    tell(story)


# -- races ------------------------------------------------------------------------------------------------------------

CALLS = 8


class Race:
    """Workers that lose answers, die, stand still, come back and bring late results, over calls that are retried."""

    def __init__(self, desk: Desk, rng: random.Random) -> None:
        self.desk = desk
        self.rng = rng
        self.attempts: dict[str, int] = {}
        self.done: dict[str, bytes] = {}
        self.at_work: dict[HeldCall, list[str]] = {}
        self.refused = self.lost = 0
        self.healed = False

    def ask(self, key: str) -> None:
        self.attempts[key] = number = self.attempts.get(key, 0) + 1
        attempt = self.desk.call(agent(timeout=4.0, hold=1_000.0), key, number)
        told = attempt.caller.on_end

        def on_end(call: str, ended: int, result: bytes | Failure, spent: Amount | None, *more: Any) -> None:
            told(call, ended, result, spent, *more)
            assert ended == self.attempts[key], "an attempt that is over has ended again"
            if isinstance(result, Failure):
                self.ask(key)
            else:
                assert key not in self.done, "two results"
                self.done[key] = result

        attempt.caller.on_end = on_end  # type: ignore[assignment]

    async def work(self, name: str) -> None:
        rng, worker = self.rng, Worker(self.desk, name, free=2)
        life = 0
        while len(self.done) < CALLS:
            worker.free = max(2 - len(worker.holding), 0)
            poll = worker.polling(wait_s=rng.choice((0.0, 0.5, 5.0)))
            if not self.healed and rng.random() < 0.1:
                await asyncio.sleep(rng.random() / 10)
                poll.cancel()  # its connection breaks
                await asyncio.gather(poll, return_exceptions=True)
                continue
            before = set(worker.holding)
            handed = await poll
            if not self.healed and rng.random() < 0.15:
                worker.holding = before  # the answer is lost on its way
                continue
            for over in handed.over:
                worker.holding.discard(over)
            for call in handed.calls:
                await self.begin(worker, HeldCall(call.key, call.attempt))
            if not self.healed and rng.random() < 0.1:
                await asyncio.sleep(rng.uniform(0, 3 * SILENCE_S))  # it stands still
            if not self.healed and rng.random() < 0.05:
                life += 1
                worker = Worker(self.desk, f"{name}.{life}", free=2)  # killed, and started again

    async def begin(self, worker: Worker, name: HeldCall) -> None:
        self.at_work.setdefault(name, []).append(worker.name)
        task = asyncio.create_task(self.make(worker, name))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def make(self, worker: Worker, name: HeldCall) -> None:
        await asyncio.sleep(self.rng.choice((0.0, 0.1, 1.0, 5.0 if not self.healed else 1.0)))
        if self.desk.finish(name.key, name.attempt, AttemptResult(msgspec.json.encode([name.key, name.attempt]))):
            assert self.attempts[name.key] == name.attempt, "a stale result was taken"
        else:
            self.refused += 1
        worker.holding.discard(name)


tasks: set[asyncio.Task[None]] = set()


def test_every_call_ends_once_whatever_becomes_of_workers_polls_and_answers() -> None:
    refused = lost = repeated = 0
    for seed in range(60):

        async def story(desk: Desk, seed: int = seed) -> None:
            nonlocal refused, lost, repeated
            race = Race(desk, random.Random(seed))
            for n in range(CALLS):
                race.ask(f"r/1/{n}")
            workers = [asyncio.create_task(race.work(f"w{n}")) for n in range(3)]
            await asyncio.sleep(30)
            race.healed = True
            async with asyncio.timeout(120):
                await asyncio.gather(*workers)
            assert set(race.done) == set(race.attempts)
            for key, result in race.done.items():
                assert msgspec.json.decode(result) == [key, race.attempts[key]]
            refused += race.refused
            lost += desk.transport.lost
            repeated += sum(number > 1 for number in race.attempts.values())
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        tell(story, seed, queue_max=100)
    assert refused > 20, "late results came"
    assert lost > 20, "workers were lost"
    assert repeated > 20, "attempts were made again"
