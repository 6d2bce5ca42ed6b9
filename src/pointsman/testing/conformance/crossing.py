"""Batches that cross each other: the same heads in opposite order, letters both ways, lanes side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pointsman.ports.event_log import Outcome
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, assert_dense, coordinators, letter


async def batches_that_cross_both_come_through(harness: Harness) -> None:
    """The same runs in opposite order: each sequence has one winner, and nobody is told of a deadlock."""
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number:02}" for number in range(20)]
    await a.moved(*(a.create(run) for run in runs))
    for sequence in range(1, 26):
        forth = [a.step(run, sequence) for run in runs]
        back = [b.step(run, sequence) for run in reversed(runs)]
        of_a, of_b = await asyncio.gather(a.store.log.append(forth), b.store.log.append(back))
        for one, other in zip(of_a, reversed(of_b), strict=True):
            assert sorted((one.outcome.value, other.outcome.value)) == ["conflict", "moved"]
    for run in runs:
        assert_dense(await a.stream(run), 26)


async def letters_that_cross_both_arrive(harness: Harness) -> None:
    """Two owners whose children's parents are each other's, in opposite order at once."""
    a, b = await coordinators(harness, 2)
    numbers = range(8)
    for turn in range(10):
        for owner, name in ((a, "a"), (b, "b")):
            await owner.moved(*(owner.create(f"{name}-{turn}-{number}") for number in numbers))
            await owner.moved(*(owner.create(f"{name}-{turn}-{number}/child") for number in numbers))
        crossing: list[Awaitable[object]] = []
        for owner, own, other, order in ((a, "a", "b", numbers), (b, "b", "a", reversed(numbers))):
            crossing.append(_cross(owner, own, other, turn, list(order)))
        await asyncio.gather(*crossing)
        for name in ("a", "b"):
            for number in numbers:
                head = await a.head(f"{name}-{turn}-{number}")
                assert (head.sequence, head.mail) == (2, 1)


async def _cross(owner: Coordinator, own: str, other: str, turn: int, order: list[int]) -> None:
    """Ends the other's children here, with letters to the other's runs, beside steps of one's own runs."""
    children = [f"{own}-{turn}-{number}/child" for number in order]
    endings = [
        owner.finish(child, 1, letter=letter(f"{other}-{turn}-{number}", child))
        for child, number in zip(children, order, strict=True)
    ]
    steps = [owner.step(f"{own}-{turn}-{number}", 1) for number in order]
    await owner.moved(*(append for pair in zip(endings, steps, strict=True) for append in pair))


async def two_lanes_do_not_disturb_each_other(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)

    async def drive(owner: Coordinator, lane: int) -> None:
        runs = [f"{owner.number}/{lane}/{number}" for number in range(10)]
        await owner.store.log.append([owner.create(run) for run in runs], lane=lane)
        for sequence in range(1, 15):
            results = await owner.store.log.append([owner.step(run, sequence) for run in runs], lane=lane)
            assert all(result.outcome is Outcome.MOVED for result in results)
        for run in runs:
            assert_dense(await owner.stream(run), 15)

    await asyncio.gather(*(drive(owner, lane) for owner in (a, b) for lane in (0, 1)))


CASES = (
    batches_that_cross_both_come_through,
    letters_that_cross_both_arrive,
    two_lanes_do_not_disturb_each_other,
)
