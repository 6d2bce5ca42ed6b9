"""The recorder: a batch that a store refuses as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pointsman import CoordinatorSettings
from pointsman.coordinator.driving.recorder import BUSY_TICKETS, Recorder, lane_of
from pointsman.kernel.errors import InvalidValue, StoreUnavailable
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Append, AppendResult, Letter, NewEvent, Outcome
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.store import MemoryStore


class Picky(MemoryEventLog):
    """Refuses every batch that holds the run "bad", as PostgreSQL refuses one whose data it can't take."""

    statements = 0

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        self.statements += 1
        if any(append.run == "bad" for append in batch):
            raise InvalidValue("the database can't hold this")
        return [AppendResult(Outcome.MOVED) for _ in batch]


async def test_one_bad_run_does_not_stop_its_neighbours() -> None:
    log, stats = Picky(MemoryStore()._session), Stats()
    recorder = Recorder(log, CoordinatorSettings(), stats)
    names = [f"good-{n}" for n in range(100)]
    names.insert(50, "bad")
    answers = {
        name: recorder.append([Append(name, 1, 1, b"nonce", [], "running", 1)]) for name in names
    }  # all wait before the lanes start, so they are refused together
    recorder.start()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(InvalidValue, match="can't hold this"):
                await answers.pop("bad")
            results = await asyncio.gather(*answers.values())
    finally:
        await recorder.stop()
    assert [result.outcome for result in results] == [Outcome.MOVED] * 100
    assert log.statements <= 2 + 2 * 6, "two for each halving of the batch that holds it, of 64 at most"
    assert 1 <= stats.appends_refused <= 6


class Noting(MemoryEventLog):
    """Notes which runs travel together."""

    batches: list[list[str]]

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        self.batches.append([append.run for append in batch])
        return [AppendResult(Outcome.MOVED) for _ in batch]


async def batches_of(tickets: Sequence[Sequence[Append]], **limits: int) -> list[list[str]]:
    """Which runs travel together, where all of these wait before the lanes begin."""
    log = Noting(MemoryStore()._session)
    log.batches = []
    recorder = Recorder(log, CoordinatorSettings(**limits), Stats())
    answers = [recorder.append(appends) for appends in tickets]
    recorder.start()
    try:
        async with asyncio.timeout(5):
            await asyncio.gather(*answers)
    finally:
        await recorder.stop()
    return log.batches


def runs_of_one_lane(count: int, lane: int = 0) -> list[str]:
    return [name for name in (f"r{n}" for n in range(40)) if lane_of(name) == lane][:count]


def moving(run: str, body: bytes = b"") -> Append:
    return Append(run, 1, 1, b"nonce", [NewEvent("E", 1, 1, body)] if body else [], "running", 1)


@pytest.mark.parametrize("is_letter_first", [True, False])
async def test_who_gets_a_letter_does_not_move_with_who_sends_it(is_letter_first: bool) -> None:
    """A statement that changed one row twice would lose one of the changes, without a word."""
    parent, child, other = runs_of_one_lane(3)
    ending = Append(child, 1, 1, b"nonce", [], "completed", None, letter=Letter(parent, "key", "child", b"{}"))
    order = [ending, moving(parent)] if is_letter_first else [moving(parent), ending]
    batches = await batches_of([[append] for append in [*order, moving(other)]])
    assert batches == [[order[0].run, other], [order[1].run]]


async def test_a_batch_is_limited_in_bytes_and_in_runs() -> None:
    """Large statements cost more a run, and the memory of both sides."""
    runs = runs_of_one_lane(9)
    sizes = [400, 700, 10, 2_000, 10, 10, 10, 10, 10]  # a body may be larger than all may be together
    tickets = [[moving(run, b"x" * size)] for run, size in zip(runs, sizes, strict=True)]
    batches = await batches_of(tickets, batch_runs_max=4, batch_bytes_max=1_000)
    assert batches == [runs[:2], runs[2:4], runs[4:8], runs[8:]]


async def test_children_count_in_a_batch_and_travel_with_who_starts_them() -> None:
    families = [
        [run, *(f"{run}~{child}" for child in range(children))]
        for run, children in zip(runs_of_one_lane(5), [1, 2, 5, 0, 1], strict=True)
    ]  # one is larger than a batch may be, and goes all the same
    first, second, large, alone, last = families
    batches = await batches_of([[moving(name) for name in family] for family in families], batch_runs_max=4)
    assert batches == [first + alone, second, large, last]


class Silent(MemoryEventLog):
    """Takes what it gets, and never answers."""

    was_asked: asyncio.Event

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        self.was_asked.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_who_waits_when_it_is_stopped_is_told_and_so_is_who_comes_after() -> None:
    """A lease that is lost while the store is away: nobody else would ever answer a client's redrive."""
    log = Silent(MemoryStore()._session)
    log.was_asked = asyncio.Event()
    recorder = Recorder(log, CoordinatorSettings(), Stats())

    def submit() -> asyncio.Future[AppendResult]:
        return recorder.append([Append("r", 1, 1, b"nonce", [], "running", 1)])

    recorder.start()
    under_way = submit()
    async with asyncio.timeout(5):
        await log.was_asked.wait()
        waiting = submit()
        await recorder.stop()
        for done in (under_way, waiting, submit()):
            with pytest.raises(StoreUnavailable):
                await done


class Held(MemoryEventLog):
    """Answers appends when it is let, all in the same turn of the event loop."""

    def __init__(self, happened: list[str]) -> None:
        super().__init__(MemoryStore()._session)
        self.happened = happened
        self.is_let = asyncio.Event()

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        self.happened.append(f"lane {lane} sends {len(batch)}")
        await self.is_let.wait()
        return [AppendResult(Outcome.MOVED) for _ in batch]


async def test_lanes_that_are_answered_together_take_turns() -> None:
    """Else the runs of both would go on together, both lanes would send together, and nothing would be left to do until
    the database has answered: an eighth of the time of a coordinator that has enough to do."""
    happened: list[str] = []
    log = Held(happened)
    recorder = Recorder(log, CoordinatorSettings(), Stats())

    async def run(name: str, lane: int) -> None:
        for _ in range(3):
            await recorder.append([moving(name)])
            if happened[-1] != f"lane {lane} goes on":
                happened.append(f"lane {lane} goes on")

    recorder.start()
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as runs:
            for lane in (0, 1):
                for name in runs_of_one_lane(BUSY_TICKETS, lane):
                    runs.create_task(run(name, lane))
            while len(happened) < 2:  # both are under way
                await asyncio.sleep(0)
            log.is_let.set()
    finally:
        await recorder.stop()
    begin = ["lane 0 sends 8", "lane 1 sends 8"]
    turn = ["lane 0 goes on", "lane 0 sends 8", "lane 1 goes on", "lane 1 sends 8"]
    assert happened == [*begin, *turn, *turn, "lane 0 goes on", "lane 1 goes on"]
