"""Races: many rounds of two who want the same thing, started together and met in every order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from pointsman.kernel.errors import DuplicateMail, RunEnded
from pointsman.ports.event_log import Outcome
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    Coordinator,
    assert_dense,
    both,
    coordinators,
    event,
    every,
    jitter,
    letter,
    patience,
)

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")

ROUNDS = 60
AT_ONCE = 8


async def one_writer_wins_each_sequence(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    chance = random.Random(1)

    async def contest(number: int) -> None:
        run = f"run-{number}"
        await a.moved(a.create(run))
        for sequence in range(1, 4):
            bodies = (b'"of a"', b'"of b"')
            appends = [a.step(run, sequence), b.step(run, sequence)]
            for append, body in zip(appends, bodies, strict=True):
                append.events = [event(body)]
            outcomes = await _together(chance, a.outcome(appends[0]), b.outcome(appends[1]))
            assert sorted(outcome.value for outcome in outcomes) == ["conflict", "moved"]
            stream = await a.stream(run)
            assert_dense(stream, sequence + 1)
            assert stream[-1].body == bodies[outcomes.index(Outcome.MOVED)]

    await _rounds(contest)


async def one_creator_wins_each_id(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    chance = random.Random(2)

    async def contest(number: int) -> None:
        run = f"run-{number}"
        outcomes = await _together(
            chance,
            a.outcome(a.create(run, events=2, tenant="of a")),
            b.outcome(b.create(run, events=3, tenant="of b")),
        )
        assert sorted(outcome.value for outcome in outcomes) == ["exists", "moved"]
        won_by_a = outcomes[0] is Outcome.MOVED
        head = await a.head(run)
        assert (head.tenant, head.owner) == (("of a", a.number) if won_by_a else ("of b", b.number))
        assert_dense(await b.stream(run), 2 if won_by_a else 3)

    await _rounds(contest)


async def mail_and_parking_never_miss_each_other(harness: Harness) -> None:
    """Either the append learns of the mail, or the mail makes the parked run due: the lost wake-up is no third."""
    a, b = await coordinators(harness, 2)
    chance = random.Random(3)

    async def contest(number: int) -> None:
        run = f"run-{number}"
        await a.moved(a.create(run))
        outcome, posted = await _together(chance, a.outcome(a.park(run, 1)), b.post(run, "mail"))
        assert posted == 1
        claimed = await b.claim(run)
        if outcome is Outcome.MOVED:
            assert [(head.id, head.mail, head.folded) for head in claimed] == [(run, 1, 0)], "lost wake-up"
        else:
            assert outcome is Outcome.MAIL_ARRIVED
            assert claimed == []
            assert dict(await a.store.mailbox.unread(a.number)).get(run) == 1

    await _rounds(contest)


async def parking_in_a_crowd_counts_what_came_before(harness: Harness) -> None:
    """Mail queues for the head while the append does: it must judge the head that it gets, not the one that it saw."""
    a, *senders = await coordinators(harness, 4)

    async def contest(number: int) -> None:
        run = f"run-{number}"
        await a.moved(a.create(run))
        posts = [
            asyncio.create_task(sender.post(run, f"{key}-{sender.number}")) for key in range(3) for sender in senders
        ]
        for _ in range(number % 7):
            await asyncio.sleep(0)
        result = await a.append(a.park(run, 1))
        await every(*posts)
        claimed = await a.claim(run)
        if result.outcome is Outcome.MOVED:
            assert result.mail == 0, "parked over unread mail"
            assert len(claimed) == 1, "lost wake-up"
        else:
            assert (result.outcome, claimed) == (Outcome.MAIL_ARRIVED, [])
        assert (await a.head(run)).mail == len(posts)

    for number in range(ROUNDS):
        await contest(number)


async def mail_is_folded_or_refused_by_an_end(harness: Harness) -> None:
    """Accepted mail is never left behind in a run that ended without it."""
    a, b = await coordinators(harness, 2)
    chance = random.Random(4)

    async def contest(number: int) -> None:
        run = f"run-{number}"
        await a.moved(a.create(run))
        outcome, accepted = await _together(chance, a.outcome(a.finish(run, 1)), _accepted(b.post(run, "mail")))
        assert (outcome, accepted) in ((Outcome.MOVED, False), (Outcome.MAIL_ARRIVED, True))
        assert (await b.head(run)).mail == int(accepted)
        assert len(await b.store.mailbox.read(run, after=0)) == int(accepted)

    await _rounds(contest)


async def letters_and_a_parking_parent_never_miss_each_other(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    chance = random.Random(5)

    async def contest(number: int) -> None:
        parent, child = f"parent-{number}", f"child-{number}"
        await a.moved(a.create(parent))
        await a.moved(a.step(parent, 1), a.create(child, parent=parent))
        await b.take(child, a)
        parked, ended = await _together(
            chance,
            a.outcome(a.park(parent, 2)),
            b.outcome(b.finish(child, 1, epoch=2, letter=letter(parent, child))),
        )
        assert ended is Outcome.MOVED
        claimed = await b.claim(parent)
        if parked is Outcome.MOVED:
            assert [(head.id, head.mail) for head in claimed] == [(parent, 1)], "lost wake-up"
        else:
            assert parked is Outcome.MAIL_ARRIVED
            assert claimed == []

    await _rounds(contest)


async def a_letter_and_a_post_of_one_key_are_one(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    chance = random.Random(6)

    async def contest(number: int) -> None:
        parent, child = f"parent-{number}", f"child-{number}"
        await a.moved(a.create(parent), a.create(child))
        ended, accepted = await _together(
            chance,
            a.outcome(a.finish(child, 1, letter=letter(parent, child, b"letter"))),
            _accepted(b.post(parent, f"child/{child}", b"post")),
        )
        assert ended is Outcome.MOVED
        (mail,) = await b.store.mailbox.read(parent, after=0)
        assert (mail.number, mail.body) == (1, b"post" if accepted else b"letter")
        assert (await a.head(parent)).mail == 1

    await _rounds(contest)


async def claimers_get_disjoint_runs(harness: Harness) -> None:
    claimers = await coordinators(harness, 4)
    runs = [f"run-{number:03}" for number in range(500)]
    await claimers[0].moved(*(claimers[0].create(run, epoch=0) for run in runs))
    taken: list[tuple[str, int]] = []

    async def claim_all(claimer: Coordinator) -> None:
        while len(taken) < len(runs):
            for head in await claimer.claim(limit=40):
                assert (head.epoch, head.owner) == (1, claimer.number)
                taken.append((head.id, claimer.number))

    async with patience():
        await asyncio.gather(*(claim_all(claimer) for claimer in claimers))
    assert sorted(run for run, _ in taken) == runs
    heads = await claimers[0].store.log.heads(runs)
    assert {run: (heads[run].owner, heads[run].epoch) for run in runs} == {run: (by, 1) for run, by in taken}


async def orphans_go_to_one_heir_each(harness: Harness) -> None:
    dead, *heirs = await coordinators(harness, 4)
    runs = [f"run-{number:03}" for number in range(90)]
    await dead.moved(*(dead.create(run) for run in runs))
    await harness.end(dead.number)
    taken: list[tuple[str, int]] = []

    async def claim_all(heir: Coordinator) -> None:
        left = 1
        while left:
            heads, left = await heir.claim_orphans(limit=8)
            taken.extend((head.id, heir.number) for head in heads)
            assert all((head.epoch, head.takeovers) == (2, 1) for head in heads)

    async with patience():
        await asyncio.gather(*(claim_all(heir) for heir in heirs))
    assert sorted(run for run, _ in taken) == runs
    heads = await dead.store.log.heads(runs)
    assert {run: (heads[run].owner, heads[run].epoch) for run in runs} == {run: (by, 2) for run, by in taken}


async def _together(chance: random.Random, one: Awaitable[S], other: Awaitable[T]) -> tuple[S, T]:
    async def late(action: Awaitable[R]) -> R:
        await jitter(chance)
        return await action

    return await both(late(one), late(other))


async def _rounds(contest: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    for first in range(0, ROUNDS, AT_ONCE):
        numbers = range(first, first + AT_ONCE)
        await every(*(asyncio.create_task(contest(number)) for number in numbers))


async def _accepted(posting: Awaitable[int]) -> bool:
    try:
        await posting
    except (RunEnded, DuplicateMail):
        return False
    return True


CASES = (
    one_writer_wins_each_sequence,
    one_creator_wins_each_id,
    mail_and_parking_never_miss_each_other,
    parking_in_a_crowd_counts_what_came_before,
    mail_is_folded_or_refused_by_an_end,
    letters_and_a_parking_parent_never_miss_each_other,
    a_letter_and_a_post_of_one_key_are_one,
    claimers_get_disjoint_runs,
    orphans_go_to_one_heir_each,
)
