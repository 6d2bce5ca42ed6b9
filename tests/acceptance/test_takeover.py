"""Coordinators that are killed, stopped, cut off from their database, or lose their connections, under load."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from pointsman.demo import journal
from pointsman.testing.chaos.proxy import proxied
from tests.support.fleet import Fleet, fleet
from tests.support.postgres import server_in_temporary_directory
from tests.support.survivors import committed_calls_repeated, completed, living, owned, start, started_on_all, until

APP = f"{Path(__file__).with_name('takeover_app.py')}:app"
NAMES = ("a", "b", "c")
TTL_S = 1.5
LIMITS = ("--set", f"lease_ttl_ms={TTL_S * 1000:.0f}", "--set", "store.ring_refresh_ms=200")
NOTICED_S = TTL_S + 3
"""Its lease is over then, and somebody has looked: five times a second, or as often as a busy machine lets it."""
UNHURRIED = ("--set", "lease_ttl_ms=5000")
"""Where nobody may die, a busy machine must not be the reason for it."""
FOR_EVER = ("--set", "lease_ttl_ms=60000")
"""Longer than a test waits: who is found dead meanwhile was not found by its lease."""
RUNS = 12
"""On each of the coordinators."""

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@asynccontextmanager
async def three(dsn: str, directory: Path, *options: str) -> AsyncIterator[Fleet]:
    async with fleet(dsn, APP, directory) as members:
        await asyncio.gather(*(members.coordinator(name, *LIMITS, *options, routers=()) for name in NAMES))
        yield members


async def ended_ms(members: Fleet, incarnation: int) -> float:
    """When it was, once it was; milliseconds since 1970."""
    query = "SELECT extract(epoch FROM ended_at) * 1000 AS at FROM coordinators WHERE incarnation = $1"
    return float(await until(lambda: _value(members, query, incarnation)))


async def _value(members: Fleet, query: str, *values: object) -> object:
    return (await members.query(query, *values))[0][0]


async def disowned(members: Fleet, incarnation: int) -> None:
    await until(lambda: _is_disowned(members, incarnation))


async def _is_disowned(members: Fleet, incarnation: int) -> bool:
    return not await owned(members, incarnation)


async def test_a_killed_coordinators_runs_go_on_with_all_survivors(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with three(fresh_database, tmp_path, *FOR_EVER, "--set", "takeover_batch=2") as members:
        runs = await started_on_all(members, 3 * RUNS)
        before = await living(members)
        orphans = await owned(members, before["a"])
        assert len(orphans) == 3 * RUNS
        members.members["a"].process.kill()
        await disowned(members, before["a"])
        heirs = await members.query("SELECT DISTINCT owner FROM runs WHERE id = ANY ($1)", list(orphans))
        assert {row["owner"] for row in heirs} == {before["b"], before["c"]}, "one of them took all"
        enough.touch()
        await completed(members, runs)
        assert await committed_calls_repeated(members, noted) == set()


async def test_the_last_one_takes_over_from_two_that_died_at_once(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with three(fresh_database, tmp_path, *FOR_EVER) as members:
        runs = await started_on_all(members, RUNS)
        before = await living(members)
        for name in ("a", "b"):
            assert len(await owned(members, before[name])) == RUNS
        for name in ("a", "b"):
            members.members[name].process.kill()
        for name in ("a", "b"):
            await disowned(members, before[name])
        enough.touch()
        await completed(members, runs)
        assert await committed_calls_repeated(members, noted) == set()


async def test_runs_that_wait_while_two_die_one_after_the_other_do_not_wait_for_each_other(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    """Each is under suspicion, for it was there at both deaths and got no further. Tried one after the other all but
    the first would be called again only after a minute."""
    async with three(fresh_database, tmp_path, *FOR_EVER, "--set", "trial_ms=60000") as members:
        before = await living(members)
        runs = await start(members.members["a"], "patient", None, [f"patient-{number}" for number in range(40)])
        await _killed_once_all_are_called(members, noted, "a")
        shares = {name: len(await owned(members, before[name])) for name in ("b", "c")}
        last, second = sorted(shares, key=lambda name: shares[name])
        assert shares[second] > 1
        await _killed_once_all_are_called(members, noted, second)
        await until(lambda: _all_called(members, noted, before[last]))
        enough.touch()
        await completed(members, runs)
        assert await committed_calls_repeated(members, noted) == set()


async def _killed_once_all_are_called(members: Fleet, noted: Path, name: str) -> None:
    incarnation = (await living(members))[name]
    await until(lambda: _all_called(members, noted, incarnation))
    members.members[name].process.kill()
    await disowned(members, incarnation)


async def _all_called(members: Fleet, noted: Path, incarnation: int) -> bool:
    """Are all runs that it owns being driven, so that their agents were called under its epochs?"""
    called = {(line.run, line.epoch) for line in journal.read(noted) if line.event == "start"}
    runs = await owned(members, incarnation)
    return bool(runs) and called >= runs.items()


async def test_a_stopped_coordinator_is_taken_over_and_does_nothing_when_it_wakes_up(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with three(fresh_database, tmp_path) as members:
        runs = await started_on_all(members, RUNS)
        before = await living(members)
        victim = members.members["a"].process
        stopped_ms = time.time() * 1000
        victim.send_signal(signal.SIGSTOP)
        orphans = await owned(members, before["a"])
        assert len(orphans) == RUNS
        assert await ended_ms(members, before["a"]) - stopped_ms < NOTICED_S * 1000
        await disowned(members, before["a"])
        claimed = await _sequences(members, orphans)
        woken_ms = time.time() * 1000
        victim.send_signal(signal.SIGCONT)
        await until(lambda: _has_registered_anew(members, "a", before["a"]))
        enough.touch()
        await completed(members, runs)
        assert await committed_calls_repeated(members, noted) == set()
        late = await members.query("SELECT run, sequence, epoch FROM events WHERE run = ANY ($1)", list(orphans))
        assert [
            row for row in late if row["sequence"] > claimed[row["run"]] and row["epoch"] <= orphans[row["run"]]
        ] == []
        decided = await members.query("SELECT run FROM events WHERE type = 'CallRequested' AND at > $1", stopped_ms)
        assert decided, "the others did go on"
        decided_before = {
            (row["run"], row["call"])
            for row in await members.query(
                "SELECT run, body ->> 'call' AS call FROM events WHERE type = 'CallRequested' AND at <= $1", stopped_ms
            )
        }  # such a request may leave when it wakes up, with its old epoch
        assert [
            line for line in journal.read(noted)
            if line.pid == victim.pid and line.event == "start" and line.wall_ms > woken_ms
            and line.epoch <= orphans.get(line.run, 0) and (line.run, line.call) not in decided_before
        ] == [], "it dispatched what was not its own any more"  # fmt: skip


async def _sequences(members: Fleet, runs: dict[str, int]) -> dict[str, int]:
    """How far each run's former owner got."""
    rows = await members.query("SELECT run, sequence, epoch FROM events WHERE run = ANY ($1)", list(runs))
    return {
        run: max(row["sequence"] for row in rows if row["run"] == run and row["epoch"] <= epoch)
        for run, epoch in runs.items()
    }


async def _has_registered_anew(members: Fleet, name: str, after: int) -> bool:
    return (await living(members)).get(name, 0) > after


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_database_is_nobodys_death(how: str, tmp_path: Path, noted: Path, enough: Path) -> None:
    with server_in_temporary_directory() as server:
        async with three(server.dsn, tmp_path, *UNHURRIED) as members:
            runs = await started_on_all(members, RUNS)
            before = await living(members)
            await asyncio.to_thread(getattr(server.embedded, how))
            assert await asyncio.to_thread(server.embedded.start) == server.dsn
            enough.touch()
            await completed(members, runs)
            assert await living(members) == before
            assert await members.query("SELECT 1 FROM events WHERE epoch > 1") == [], "a run changed its owner"
            assert await committed_calls_repeated(members, noted) == set()


async def test_connections_that_are_ended_again_and_again_are_nobodys_death(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with three(fresh_database, tmp_path, *UNHURRIED) as members:
        runs = await started_on_all(members, RUNS)
        before = await living(members)
        killer = await asyncpg.connect(fresh_database)
        try:
            for _ in range(4):
                ended = await killer.fetch(
                    "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name LIKE 'pointsman-%'"
                )
                assert len(ended) >= len(NAMES)
                # All three hold their locks again, and somebody watches each: the next blow meets a whole ring.
                await until(partial(_are_held, killer, before, {row["pid"] for row in ended}))
        finally:
            await killer.close()
        enough.touch()
        await completed(members, runs)
        assert await living(members) == before
        assert await members.query("SELECT 1 FROM events WHERE epoch > 1") == [], "a run changed its owner"
        assert await committed_calls_repeated(members, noted) == set()


async def _are_held(connection: asyncpg.Connection, incarnations: dict[str, int], ended: set[int]) -> bool:
    """By other backends than those that were told to end: they hold their locks until they have heard of it."""
    held = await connection.fetch(
        "SELECT objid, pid FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return {row["objid"] for row in held if row["pid"] not in ended} >= set(incarnations.values())


async def test_a_coordinator_that_is_cut_off_stops_and_comes_back_as_a_new_incarnation(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with proxied(fresh_database) as (network, far), fleet(fresh_database, APP, tmp_path) as members:
        near = ("--store", far)
        await members.coordinator("a", *LIMITS, *near, routers=())
        await asyncio.gather(*(members.coordinator(name, *LIMITS, routers=()) for name in ("b", "c")))
        runs = await started_on_all(members, RUNS)
        before = await living(members)
        cut_ms = time.time() * 1000
        network.block()
        orphans = await owned(members, before["a"])
        assert len(orphans) == RUNS
        ended = await ended_ms(members, before["a"])
        assert ended - cut_ms < NOTICED_S * 1000
        await disowned(members, before["a"])
        network.cut()
        network.unblock()
        await until(lambda: _has_registered_anew(members, "a", before["a"]))
        enough.touch()
        await completed(members, runs)
        assert await committed_calls_repeated(members, noted) == set()
        pid = members.members["a"].process.pid
        assert [
            line for line in journal.read(noted)
            if line.pid == pid and line.event == "start" and line.wall_ms > ended
            and line.epoch <= orphans.get(line.run, 0)
        ] == [], "it dispatched after its lease had run out"  # fmt: skip
