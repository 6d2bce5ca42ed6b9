"""Claimed runs whose logs are larger than one answer of the store may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from pointsman import App, Run
from pointsman.coordinator.budgets import recovery
from pointsman.coordinator.owning.logs import FIRST_PAGE, PAGE, ClaimedLogs
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.memory.event_log import MemoryEventLog
from tests.unit.coordinator.test_service import coordinator, result, start, until
from tests.unit.stores.memory.support import creation

KB = 1_000
BODY = NewEvent("CallCompleted", 1, 1, b"x" * 100)
app = App("large")


@app.agent
def double(n: int) -> int:
    return 2 * n


@app.workflow()
async def steps(run: Run, text: str) -> int:
    n = len(text)
    for _ in range(3):
        n = await run.call(double, n)
    n += int(await run.wait_for("go"))
    return int(await run.call(double, n))


async def parked(database: MemoryDatabase, runs: Sequence[str], size: int) -> None:
    async with coordinator(app, database) as one:
        for run in runs:
            await start(one, "steps", msgspec.json.encode("x" * size), run)
        await until(lambda: all(database.runs[run].status == "parked" for run in runs))


async def resumed(database: MemoryDatabase, runs: Sequence[str], **settings: int) -> dict[str, object]:
    """What each came to under another coordinator, which claims all that are parked together."""
    for row in database.runs.values():
        row.wake_at = row.updated_at
    async with coordinator(app, database, "two", **settings) as two:
        client = CoordinatorRuns(two)
        for run in runs:
            await client.signal(run, "go", b"1", key="k")
        return {run: await result(two, run) for run in runs}


@contextmanager
def answers(look: Callable[[str, list[Sequence[Recorded]]], None]) -> Iterator[None]:
    """`look` is told of each answer of the log before its reader is, and may fail it."""
    read, read_many = MemoryEventLog.read, MemoryEventLog.read_many

    async def reading(self: MemoryEventLog, run: str, **limits: Any) -> list[Recorded]:
        page = await read(self, run, **limits)
        look("read", [page])
        return page

    async def reading_many(self: MemoryEventLog, after: Mapping[str, int], **limits: Any) -> dict[str, list[Recorded]]:
        found = await read_many(self, after, **limits)
        look("read_many", list(found.values()))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "read", reading)
        patch.setattr(MemoryEventLog, "read_many", reading_many)
        yield


def size_of(pages: Sequence[Sequence[Recorded]]) -> int:
    return sum(len(event.body) for page in pages for event in page)


async def test_no_answer_is_larger_than_its_limit_and_one_event() -> None:
    database, runs, sizes = MemoryDatabase(), [f"r{n}" for n in range(6)], list[int]()
    await parked(database, runs, 60 * KB)
    together: list[int] = []

    def note(statement: str, pages: list[Sequence[Recorded]]) -> None:
        sizes.append(size_of(pages))
        if statement == "read_many":
            together.append(len(pages))

    with answers(note):
        ends = await resumed(database, runs, load_bytes_max=100 * KB)
    assert ends == dict.fromkeys(runs, 2 * (8 * 60 * KB + 1))
    assert max(sizes) < (100 + 61) * KB
    assert sum(sizes) > 6 * 60 * KB
    assert together == [6, 4, 2], "those that nothing was left for are read together again"


async def test_a_store_that_can_not_give_so_much_is_asked_for_less() -> None:
    """A statement that takes longer than it may fails each time that it is asked again."""
    database, runs, failed = MemoryDatabase(), [f"r{n}" for n in range(6)], list[int]()
    await parked(database, runs, 60 * KB)

    def times_out(_: str, pages: list[Sequence[Recorded]]) -> None:
        if size_of(pages) > 150 * KB:
            failed.append(size_of(pages))
            raise StoreUnavailable("no answer within statement_timeout_s")

    with answers(times_out):
        ends = await resumed(database, runs, takeover_retry_ms=1)
    assert ends == dict.fromkeys(runs, 2 * (8 * 60 * KB + 1))
    assert failed


async def test_runs_that_fit_into_one_answer_cost_one_statement() -> None:
    database, runs, asked = MemoryDatabase(), [f"r{n}" for n in range(20)], list[str]()
    await parked(database, runs, 1 * KB)
    with answers(lambda statement, pages: asked.append(f"{statement} {len(pages)}")):
        await resumed(database, runs)
    assert [statement for statement in asked if statement.startswith("read_many")] == ["read_many 20"]


async def test_an_event_that_can_not_be_read_hides_nothing_of_the_runs_beside_it() -> None:
    """It has no body to count, and took its place in the answer all the same: those behind it have to be asked for."""
    database, runs = MemoryDatabase(), ["bad", *(f"r{n}" for n in range(3))]
    await parked(database, runs, 1 * KB)
    row = database.runs["bad"]
    row.events[0] = msgspec.structs.replace(row.events[0], body=b"", damage="a packed event is damaged")
    page = MemoryEventLog._page

    def counted(self: MemoryEventLog, run: str, after: int, limit: int, left: float) -> tuple[list[Recorded], float]:
        found, over = page(self, run, after, limit, left)
        return (found[:1], 0) if found and found[0].damage and left > 0 else (found, over)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "_page", counted)
        ends = await resumed(database, runs[1:], load_bytes_max=500 * KB)
        assert ends == dict.fromkeys(runs[1:], 2 * (8 * KB + 1))
        await until(lambda: row.status == "quarantined")


@pytest.mark.parametrize("bytes_max", [1, 700, 5_000, 10**9])
async def test_each_log_is_whole_whichever_limit_cut_it(bytes_max: int) -> None:
    """By bytes or by events, in the first answer or a later one; those that nobody asks for may be left out."""
    counts = {"a": 3, "none": 0, "b": FIRST_PAGE, "c": FIRST_PAGE + PAGE, "d": 7, "e": FIRST_PAGE + PAGE + 1, "f": 1}
    store = MemoryStore(MemoryDatabase())
    await store.open()
    batch = [creation(run, 1, events=[BODY] * count) for run, count in counts.items() if count]
    await store.log.append(batch)
    logs = ClaimedLogs(
        store.log, {run: min(count, 2) for run, count in counts.items()}, bytes_max=bytes_max, retry_ms=1
    )
    sizes: list[int] = []
    with answers(lambda _, pages: sizes.append(size_of(pages))):
        for run, count in counts.items():
            if run != "d":
                assert [event.sequence for event in await logs.of(run)] == list(range(3, count + 1)), run
    assert max(sizes) < bytes_max + 100
    await store.close()


async def test_an_event_that_was_moved_ends_what_is_read() -> None:
    """Redis gives what stands at a place, and that may say that it comes earlier."""
    moved = [Recorded(n, 1, "CallCompleted", 1, b"{}") for n in (1, 2, 1)]

    class Shifted:
        async def read_many(self, after: Mapping[str, int], *, limit: int, bytes_max: int) -> Any:
            return {"r": await self.read("r", after=0, limit=limit, bytes_max=bytes_max)}

        async def read(self, run: str, *, after: int, limit: int, bytes_max: int) -> list[Recorded]:
            return moved[after : after + 1]

    logs = ClaimedLogs(Shifted(), {"r": 0}, bytes_max=1, retry_ms=1)  # type: ignore[arg-type]
    assert [event.sequence for event in await logs.of("r")] == [1, 2, 1]


@pytest.mark.parametrize("bytes_max", [1, 450, 10**9])
async def test_what_settles_a_tranche_reads_a_log_whole(bytes_max: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PAGE_BYTES", bytes_max)
    store = MemoryStore(MemoryDatabase())
    await store.open()
    await store.log.append([creation("r", 1, events=[BODY] * 12)])
    assert [event.sequence for event in await recovery._read(store.log, "r", after=3)] == list(range(4, 13))
    await store.close()
