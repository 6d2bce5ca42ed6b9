"""A log that was damaged stops its own run, with an exact report, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest

from pointsman import App, Run
from pointsman.agents import workflow
from pointsman.api import views
from pointsman.cli.runs import drawing, folding
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.checksum import first_damage, following
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Outcome
from pointsman.stores.memory.database import HeadRow, MemoryDatabase
from pointsman.stores.memory.event_log import MemoryEventLog
from tests.unit.coordinator.test_service import coordinator, result, start, until


def deployed(build: str) -> App:
    app = App("waiting")

    @app.agent
    def double(n: int) -> int:
        return 2 * n

    async def body(run: Run) -> int:
        n = 1
        for _ in range(4):
            n = await run.call(double, n)
        n += int(await run.wait_for("go"))
        return int(await run.call(double, n))

    steps = app.workflow(name="steps")(body)
    app._workflows["steps", 1] = type(steps)("steps", 1, steps.function, steps.signature, build)
    return app


app = deployed("this build")


async def parked(database: MemoryDatabase, *runs: str) -> None:
    """Runs whose owner has left, so that whoever comes next reads their log."""
    async with coordinator(app, database) as one:
        for run in runs:
            await start(one, "steps", run=run)
        await until(lambda: all(database.runs[run].status == "parked" for run in runs))


def change(row: HeadRow, sequence: int, **columns: object) -> None:
    row.events[sequence - 1] = msgspec.structs.replace(row.events[sequence - 1], **columns)


def edit_a_body(row: HeadRow) -> None:
    change(row, 5, body=row.events[4].body.replace(b"4", b"5"))


def exchange_two(row: HeadRow) -> None:
    a, b = row.events[2], row.events[4]
    change(row, 3, body=b.body, at=b.at, checksum=b.checksum)
    change(row, 5, body=a.body, at=a.at, checksum=a.checksum)


def lose_one(row: HeadRow) -> None:
    """Those behind it keep their sequences."""
    del row.events[3]


DAMAGES: dict[str, tuple[Callable[[HeadRow], None], str]] = {
    "a changed body": (edit_a_body, "event 5, a CallCompleted, is not what was appended"),
    "exchanged rows": (exchange_two, "event 3, a CallCompleted, is not what was appended"),
    "a hole": (lose_one, "event 4 is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_a_damaged_run_is_quarantined_and_its_neighbours_go_on(name: str) -> None:
    database = MemoryDatabase()
    await parked(database, "bad", "good")
    damage, message = DAMAGES[name]
    damage(database.runs["bad"])
    async with coordinator(app, database, "two") as two:
        for run in ("bad", "good"):
            await CoordinatorRuns(two).signal(run, "go", b"1", key="k")
        assert await result(two, "good") == 34
        await until(lambda: database.runs["bad"].status == "quarantined")
        view = await CoordinatorRuns(two).get("bad")
    assert view.failure is not None
    assert view.failure.kind == "corrupt_log"
    assert message in view.failure.message
    assert "pointsman doctor --run bad" in view.failure.message
    assert database.runs["bad"].owner is None


async def test_a_run_is_not_started_on_a_checksum_that_its_owner_forgot() -> None:
    """What every owner appends fits what the one before left: parks, takeovers, refusals and children."""
    database = MemoryDatabase()
    await parked(database, "r")
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 34
    for row in database.runs.values():
        assert first_damage(row.id, row.events, len(row.events)) is None


async def test_a_poisoned_run_is_held_back_with_an_event_that_fits() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    database.runs["r"].takeovers = 5
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        await until(lambda: database.runs["r"].status == "quarantined")
    row = database.runs["r"]
    assert row.events[-1].type == "RunStopped"
    assert first_damage("r", row.events, len(row.events)) is None


async def test_a_run_that_nobody_had_room_for_begins_with_an_event_that_fits() -> None:
    database = MemoryDatabase()
    async with coordinator(app, database, runs_max=1) as one:
        for run in "abc":
            await start(one, "steps", run=run)
        await until(lambda: all(row.status == "parked" for row in database.runs.values()))
    assert len(database.runs) == 3
    for row in database.runs.values():
        assert first_damage(row.id, row.events, len(row.events)) is None


async def test_rows_behind_the_head_leave_no_place_for_a_reason_and_the_run_is_quarantined() -> None:
    """The append that would say why is in conflict with what stands there."""
    database = MemoryDatabase()
    await parked(database, "r")
    refuse = MemoryEventLog._refuse_move

    def occupied(self: MemoryEventLog, row: HeadRow | None, item: object) -> Outcome | None:
        has_event = bool(getattr(item, "events", None))
        return Outcome.CONFLICT if has_event else refuse(self, row, item)  # type: ignore[arg-type]

    read, stray = MemoryEventLog.read_many, Recorded(99, 0, "CallCompleted", 1, b"{}")

    async def reading(self: MemoryEventLog, after: Mapping[str, int], **limits: Any) -> dict[str, list[Recorded]]:
        return {run: [*rows, stray] for run, rows in (await read(self, after, **limits)).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "_refuse_move", occupied)
        patch.setattr(MemoryEventLog, "read_many", reading)
        async with coordinator(app, database, "two") as two:
            await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
            await until(lambda: database.runs["r"].status == "quarantined")
    assert database.runs["r"].owner is None


async def test_an_event_from_the_future_stops_its_run_until_a_release_knows_it() -> None:
    """Nothing is wrong with its log: it is stopped, and its build says which events were known."""
    database = MemoryDatabase()
    await parked(database, "r")
    row = database.runs["r"]
    last, before = row.events[-1], row.events[-2]
    checksum = following(before.checksum, last.sequence, last.at, last.type, 7, last.epoch, last.body)
    change(row, last.sequence, version=7, checksum=checksum)
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        await until(lambda: row.status == "stopped")
        view = await CoordinatorRuns(two).get("r")
        assert view.failure is not None
        assert view.failure.kind == "unknown_event"
        assert "deploy a newer release" in view.failure.message
    row.events.pop()  # the newer release: it reads the event as what it is
    change(row, last.sequence, version=1, checksum=last.checksum)
    async with coordinator(deployed("knows more"), database, "three") as three:
        assert await result(three, "r") == 34


def test_the_events_that_a_release_knows_are_part_of_every_build(monkeypatch: pytest.MonkeyPatch) -> None:
    before = workflow.build_digest(deployed)
    monkeypatch.setattr(workflow, "CATALOGUE", "another")
    assert workflow.build_digest(deployed) != before


# -- what is shown of a damaged run --------------------------------------------------------------------------------


async def test_the_events_of_a_damaged_run_are_shown_and_the_damaged_one_says_so() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    edit_a_body(database.runs["r"])
    async with coordinator(app, database, "two") as two:
        runs = CoordinatorRuns(two)
        for after, limit in ((0, 100), (2, 3), (3, 3), (4, 1), (4, 3)):
            events = await runs.events("r", after=after, limit=limit)
            assert [event.sequence for event in events] == list(range(after + 1, min(after + limit, 10) + 1))
            assert [event.sequence for event in events if event.damage] == [5], (after, limit)
        assert not any(event.damage for event in await runs.events("r", after=5))
        shown = (await runs.events("r", after=4, limit=1, inputs=True))[0]
        assert msgspec.json.decode(shown.data)["output"] == 5
        assert "is not what was appended" in shown.damage


async def test_an_event_that_nothing_can_be_made_of_is_shown_as_nothing() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    row = database.runs["r"]
    change(row, 5, body=b"\xff{", at=10**17)
    change(row, 6, body=b"", damage="a packed event is damaged")
    async with coordinator(app, database, "two") as two:
        events = await CoordinatorRuns(two).events("r", inputs=True)
        bodies = [(event.sequence, bytes(event.data)) for event in events if event.damage]
        assert bodies == [(5, b"null"), (6, b"null")]
        assert views.events(events, 100, 4_000_000)
        line = msgspec.json.decode(views.encode(views.event_body(events[4])))
        assert "event 5" in drawing.event_line(line, 0).plain
        assert folding.build([msgspec.json.decode(views.encode(views.event_body(event))) for event in events])


async def test_the_end_of_a_run_that_cannot_be_trusted_is_no_result() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 34
    row = database.runs["r"]
    change(row, len(row.events), body=b'{"output":35}')
    async with coordinator(app, database, "three") as three:
        view = await CoordinatorRuns(three).get("r")
    assert (view.head.status, view.output) == ("completed", None)
    assert view.failure is not None
    assert view.failure.kind == "corrupt_log"
    assert "is not what was appended" in view.failure.message


async def test_the_end_of_a_run_whose_last_events_are_all_lost_is_no_result() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 34

    async def reading(self: MemoryEventLog, run: str, **limits: Any) -> list[Recorded]:
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "read", reading)
        async with coordinator(app, database, "three") as three:
            view = await CoordinatorRuns(three).get("r")
    assert view.failure is not None
    assert view.failure.kind == "corrupt_log"
    assert "the log ends with" in view.failure.message


async def test_who_follows_a_run_whose_last_event_is_lost_is_told() -> None:
    """And does not wait for it by asking again and again."""
    database = MemoryDatabase()
    await parked(database, "r")
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 34
    read, last = MemoryEventLog.read, len(database.runs["r"].events)

    async def reading(self: MemoryEventLog, run: str, **limits: Any) -> list[Recorded]:
        return [row for row in await read(self, run, **limits) if row.sequence < last]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryEventLog, "read", reading)
        async with coordinator(app, database, "three") as three, asyncio.timeout(5):
            with pytest.raises(CorruptLog, match="the log ends with event"):
                async for _ in CoordinatorRuns(three).follow("r"):
                    pass


async def test_a_quarantined_run_without_a_reason_in_its_log_is_looked_at() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    row = database.runs["r"]
    edit_a_body(row)
    row.status, row.wake_at = "quarantined", None
    async with coordinator(app, database, "two") as two:
        view = await CoordinatorRuns(two).get("r")
    assert view.failure is not None
    assert "event 5, a CallCompleted" in view.failure.message
