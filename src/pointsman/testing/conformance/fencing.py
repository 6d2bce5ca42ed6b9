"""Fencing: a head moves only for its owner's epoch and only from the expected sequence."""

from __future__ import annotations

import asyncio
import random

from pointsman.ports.event_log import Append, Head, Outcome, Resolution
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, assert_dense, coordinators, event, jitter


async def a_stale_epoch_is_fenced(harness: Harness) -> None:
    """With the right sequence, so that nothing but the epoch can refuse it; and it leaves nothing."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    assert (await b.take("run", a)).epoch == 2
    before = await b.head("run")
    for stale in (a.step("run", 1, epoch=1), a.park("run", 1, epoch=1), a.finish("run", 1, epoch=1)):
        stale.events = [event(b'"stale"')]
        assert await a.outcome(stale) is Outcome.FENCED
        assert await a.store.log.resolve(stale) is Resolution.ABSENT
    assert await b.head("run") == before
    assert_dense(await b.stream("run"), 1)
    events, _ = await b.store.log.feed()
    assert all(item.recorded.body != b'"stale"' for item in events)
    await b.moved(b.step("run", 1, epoch=2))


async def an_epoch_from_the_future_is_fenced(harness: Harness) -> None:
    a, _ = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    assert await a.outcome(a.step("run", 1, epoch=2)) is Outcome.FENCED
    assert_dense(await a.stream("run"), 1)


async def a_wrong_sequence_is_a_conflict(harness: Harness) -> None:
    a, _ = await coordinators(harness, 2)
    await a.moved(a.create("run", events=3))
    for expected in (0, 2, 4, 99):
        assert await a.outcome(a.step("run", expected)) is Outcome.CONFLICT
    assert_dense(await a.stream("run"), 3)
    assert (await a.head("run")).sequence == 3


async def fenced_says_more_than_conflict(harness: Harness) -> None:
    """Both are wrong: the epoch decides, for a fenced owner must drop the run and not resolve it."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await b.take("run", a)
    await b.moved(b.step("run", 1, epoch=2))
    assert await a.outcome(a.step("run", 1, epoch=1)) is Outcome.FENCED


async def fenced_says_more_than_mail(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await b.take("run", a)
    await b.post("run", "mail")
    assert await a.outcome(a.finish("run", 1, epoch=1)) is Outcome.FENCED


async def an_ended_run_moves_no_more(harness: Harness) -> None:
    """Not even for its last owner, with the right epoch and sequence: a terminal event is the last."""
    a, _ = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await a.moved(a.finish("run", 1))
    ended = await a.head("run")
    for late in (a.step("run", 2), a.finish("run", 2), a.park("run", 2)):
        assert await a.outcome(late) is Outcome.CONFLICT
    assert await a.head("run") == ended
    assert_dense(await a.stream("run"), 2)


async def events_carry_their_writers_epoch(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run", events=2))
    await b.take("run", a)
    await b.moved(b.step("run", 2, epoch=2))
    await a.take("run", b)
    await a.moved(a.finish("run", 3, epoch=3))
    assert [recorded.epoch for recorded in await b.stream("run")] == [1, 1, 2, 3]


async def the_owner_before_never_writes_beside_the_new(harness: Harness) -> None:
    """The same sequence through two epochs at once, as after a pause: only the new owner writes."""
    a, b = await coordinators(harness, 2)
    chance = random.Random(7)
    runs = [f"run-{number}" for number in range(30)]
    await a.moved(*(a.create(run) for run in runs))

    async def contest(run: str) -> None:
        await b.take(run, a)
        stale, fresh = a.step(run, 1, epoch=1), b.step(run, 1, epoch=2)

        async def late() -> Outcome:
            await jitter(chance)
            return await a.outcome(stale)

        outcomes = await asyncio.gather(late(), b.outcome(fresh))
        assert tuple(outcomes) == (Outcome.FENCED, Outcome.MOVED)
        assert await b.store.log.resolve(fresh) is Resolution.OURS
        stream = await b.stream(run)
        assert_dense(stream, 2)
        assert stream[1].epoch == 2

    await asyncio.gather(*(contest(run) for run in runs))


async def a_claim_cuts_between_two_appends(harness: Harness) -> None:
    """An owner that appends while its run is taken from it: it lands before the claim, or not at all."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    old, new = a, b
    sequence, epoch = 1, 1
    chance = random.Random(13)
    for _ in range(20):

        async def seize(new: Coordinator = new, old: Coordinator = old, epoch: int = epoch) -> Head:
            while True:
                await old.store.ownership.hand_over(old.number, {"run": epoch})
                if claimed := await new.claim("run"):
                    return claimed[0]

        append = old.step("run", sequence, epoch=epoch)

        async def late(append: Append = append, old: Coordinator = old) -> Outcome:
            await jitter(chance)
            await jitter(chance)
            return await old.outcome(append)

        outcome, head = await asyncio.gather(late(), seize())
        assert outcome in (Outcome.MOVED, Outcome.FENCED)
        assert (head.owner, head.epoch) == (new.number, epoch + 1)
        assert head.sequence == sequence + (outcome is Outcome.MOVED)
        await new.moved(new.step("run", head.sequence, epoch=head.epoch))
        sequence, epoch = head.sequence + 1, head.epoch
        old, new = new, old
    stream = await a.stream("run")
    assert_dense(stream, sequence)
    epochs = [recorded.epoch for recorded in stream]
    assert epochs == sorted(epochs)


CASES = (
    a_stale_epoch_is_fenced,
    an_epoch_from_the_future_is_fenced,
    a_wrong_sequence_is_a_conflict,
    fenced_says_more_than_conflict,
    fenced_says_more_than_mail,
    an_ended_run_moves_no_more,
    events_carry_their_writers_epoch,
    the_owner_before_never_writes_beside_the_new,
    a_claim_cuts_between_two_appends,
)
