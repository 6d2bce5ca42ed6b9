"""Schedules on the SQLite store: they are clean and say something, a seed is a schedule, and the file's process is held
and dies as a process does."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from pointsman.kernel.errors import StoreInUse, StoreUnavailable
from pointsman.ports.event_log import Append, NewEvent, NewRun
from pointsman.stores.sqlite import SqliteStore
from pointsman.testing.sim.__main__ import main
from pointsman.testing.sim.campaign import run_campaign
from pointsman.testing.sim.clocks import ProcessClocks, SimClock
from pointsman.testing.sim.databases import Surroundings, as_appended, has_past, rot
from pointsman.testing.sim.faulty import Faults, Trace
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.sqlite.database import FileSeat, SimFile
from pointsman.testing.sim.world import simulate

SEEDS = 60


def test_seeds_are_clean_and_not_vacuous():
    summary = run_campaign(range(SEEDS), jobs=1, store="sqlite")
    assert summary["violations"] == []
    assert summary["runs_completed"] == summary["runs"]
    assert summary["repeated"] > 0
    assert {"crash", "stop", "drain", "full", "failing", "refused", "second", "slow"} <= summary["faults"].keys()


def test_a_seed_is_a_schedule_and_leaves_nothing_behind():
    first, again = simulate(7, store="sqlite", is_traced=True), simulate(7, store="sqlite", is_traced=True)
    assert (first.trace, first.digest) == (again.trace, again.digest)
    assert any(" append " in line for line in first.trace)
    assert simulate(7).digest != first.digest


def test_the_command_takes_a_store(capsys):
    assert main(["--store", "sqlite", "--seed", "5", "--trace"]) == 0
    said = capsys.readouterr().out
    assert simulate(5, store="sqlite").digest in said
    assert simulate(5).digest not in said


# -- its file, and its processes ---------------------------------------------------------------------------------------


class Machine:
    """A loop, a file, and processes that open it."""

    def __init__(self) -> None:
        self.loop = SimLoop(random.Random(1))
        self.file = SimFile(SimClock(self.loop))
        self.trace = Trace(self.loop)

    def seat(self, name: str) -> FileSeat:
        self.process = Process(name)
        rng = random.Random(name)
        PROCESS.set(self.process)
        clocks = ProcessClocks(self.loop, rng)
        return self.file.join(Surroundings(self.loop, rng, self.process, clocks, Faults(), self.trace))


@pytest.fixture
def machine() -> Any:
    machine = Machine()
    yield machine
    machine.file.close()
    machine.loop.close()
    PROCESS.set(None)
    assert not machine.file.path.parent.exists()


def begun(run: str, parent: str | None = None) -> Append:
    new = NewRun(workflow="w", version=1, build="", bucket=0, digest="d", parent=parent)
    events = [NewEvent("RunStarted", 1, 1, b"{}"), NewEvent("TimerSet", 1, 1, b'{"n":1}')]
    return Append(run, 1, 0, b"n", events, "parked", None, wake_at=5, create=new)


def ended(run: str) -> Append:
    return Append(run, 1, 2, b"m", [NewEvent("RunCompleted", 1, 1, b"{}")], "completed", None, closes=True)


def on(machine: Machine, work: Any) -> Any:
    return machine.loop.run_until_complete(work)


def test_production_s_store_is_unchanged(machine):
    assert type(machine.seat("a").store) is SqliteStore


def test_what_is_not_committed_dies_with_its_process_and_what_is_stays(machine):
    async def killed(run: str, after_s: float) -> None:
        seat = machine.seat(f"of {run}")
        await seat.store.open()
        told = asyncio.ensure_future(seat.store.log.append([begun(run)]))
        await asyncio.sleep(after_s)
        seat.crash()
        await asyncio.sleep(1)
        assert not told.done(), "nobody hears of it"
        told.cancel()
        with pytest.raises(StoreUnavailable):
            await seat.store.log.heads([run])

    on(machine, killed("early", 0.00001))
    on(machine, killed("late", 0.0003))
    assert [head.id for head in machine.file.reader.heads()] == ["late"]
    assert [one.run for one in machine.file.committed()] == ["late", "late"]


def test_a_process_that_is_held_writes_nothing_until_it_goes_on(machine):
    seat = machine.seat("a")

    async def written() -> None:
        await seat.store.open()
        await seat.store.log.append([begun("r")])

    task = machine.loop.create_task(written())
    PROCESS.set(None)
    machine.loop.call_later(0.00001, machine.loop.hold, machine.process)
    on(machine, asyncio.sleep(3))
    assert seat.is_busy
    assert machine.file.position == 0
    machine.loop.release(machine.process)
    on(machine, asyncio.sleep(3))
    assert machine.file.position == 2
    assert task.done()


def test_the_file_is_refused_to_a_second_process_until_the_first_is_gone(machine):
    async def opened() -> None:
        first, second = machine.seat("a"), machine.seat("b")
        await first.store.open()
        with pytest.raises(StoreInUse):
            await second.store.open()
        first.crash()
        await second.store.open()

    on(machine, opened())


@pytest.mark.parametrize("disk", ["is_full", "is_failing"])
def test_what_the_disk_refuses_is_not_there(machine, disk):
    async def refused() -> None:
        seat = machine.seat("a")
        await seat.store.open()
        await seat.store.log.append([begun("before")])
        machine.file.hurt(**{disk: True})
        outcomes = await asyncio.gather(
            *(seat.store.log.append([begun(f"r{number}")]) for number in range(300)), return_exceptions=True
        )
        assert any(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        there = len(machine.file.reader.heads())
        machine.file.hurt()
        await seat.store.log.append([begun("after")])
        heads = machine.file.reader.heads()
        assert len(heads) == there + 1
        assert machine.file.position == 2 * len(heads)

    on(machine, refused())


def test_what_rots_is_seen_by_who_reads_and_put_right_for_the_checkers(machine):
    async def written() -> None:
        seat = machine.seat("a")
        await seat.store.open()
        await seat.store.log.append([begun("r")])

    on(machine, written())
    whole = tuple(machine.file.reader.stream("r"))
    assert rot(machine.file, random.Random(1), lambda _: True) is None, "in memory everywhere: nobody would look"
    assert rot(machine.file, random.Random(1), lambda _: False) == "r"
    assert machine.file.reader.stream("r")[1].body == b'{"n":1} '
    assert as_appended(machine.file, "r") == whole
    assert rot(machine.file, random.Random(1), lambda _: False) is None, "once is enough"


def test_what_retention_deletes_is_kept_for_the_checkers(machine):
    async def deleted() -> None:
        seat = machine.seat("a")
        await seat.store.open()
        log = seat.store.log
        await log.append([begun("p"), begun("c", parent="p")])
        for run in ("p", "c"):
            await log.append([ended(run)])
        at = machine.file.true_clock.now() + 1
        machine.file.skip(10 * 86_400_000)
        assert has_past(machine.file, at)
        assert await seat.store.retention.delete(at, limit=1) == 1
        assert await seat.store.retention.delete(at, limit=1) == 1
        assert not has_past(machine.file, at)

    on(machine, deleted())
    child, parent = machine.file.erased
    assert (child.head.id, child.parent.id, parent.head.id, parent.parent) == ("c", "p", "p", None)
    assert [event.type for event in child.stream] == ["RunStarted", "TimerSet", "RunCompleted"]
    assert [one.run for one in machine.file.committed()] == ["p", "p", "c", "c", "p", "c"]


def test_where_there_is_no_memory_for_files_a_folder_of_the_system_does(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("pointsman.testing.sim.sqlite.database.IN_MEMORY", tmp_path / "none")
    assert simulate(7, store="sqlite").violations == []
