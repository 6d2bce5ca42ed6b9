"""Retention on PostgreSQL: plans and size, crashes between and inside its steps, and partitions that are in use."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from typing import Any

import pytest

from pointsman.coordinator.retention import DAY_MS, Turn, take_turn
from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import Append, Outcome
from pointsman.stores.postgres import PostgresStore
from pointsman.stores.postgres import retention as module
from pointsman.stores.postgres.server import Server
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import SETTINGS, connected, creation, opened, step, until
from tests.unit.stores.postgres.test_appending import nodes

pytestmark = pytest.mark.postgres

OLD = 1
MANY = 20_000
OPEN = 400
SECONDS_MAX = 60.0

FILL = """
WITH made AS (
    INSERT INTO runs (id, epoch, sequence, status, bucket, workflow, version, build, digest, tenant, mail, folded,
                      created_at, updated_at, ended_at)
    SELECT prefix || n, 1, 4, CASE WHEN is_over THEN 'completed' ELSE 'parked' END, $3, 'support', 1, 'b', 'd',
           'default', 1, 1, '1970-01-10', '1970-01-10', CASE WHEN is_over THEN '1970-01-10'::timestamptz END
    FROM (SELECT $1::text AS prefix, $4::bool AS is_over) said, generate_series(1, $2::int) n
    RETURNING id, number
), mails AS (
    INSERT INTO mailbox (run, key, kind, body, number) SELECT id, 'key', 'signal', '', 1 FROM made
), tasks AS (
    INSERT INTO human_tasks (id, run, call, status, question, detail, opened_at)
    SELECT 'task of ' || id, id, 'ask#1', 'closed', 'Well?', '{}', '1970-01-10' FROM made
)
INSERT INTO streams (number, at, xid, bucket, sequence, epoch, version, checksum, type)
SELECT number, 0, pg_current_xact_id()::text::bigint, $3, s, 1, 1, 0, 'CallCompleted' FROM made, generate_series(1, 4) s
"""
STATE = """
SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM mailbox) AS mails,
       (SELECT count(*) FROM human_tasks) AS tasks, (SELECT count(*) FROM reservations) AS reservations,
       (SELECT count(*) FROM streams) AS events, to_regclass('streams_1') IS NULL AS is_dropped
"""


async def nothing() -> None:
    pass


def ending(run: str, expected: int) -> Append:
    append = step(run, expected)
    append.status, append.owner, append.closes = "completed", None, True
    return append


async def fill(dsn: str, ended: int, left: int) -> None:
    """Runs of bucket 1, of four events each."""
    async with opened(dsn) as store, connected(dsn) as connection:
        await store.log.append([creation("first", bucket=OLD)])
        await store.log.append([ending("first", 1)])
        await connection.execute("UPDATE runs SET ended_at = '1970-01-10' WHERE id = 'first'")
        await connection.execute(FILL, "ended-", ended, OLD, True)
        await connection.execute(FILL, "open-", left, OLD, False)


async def retain(store: PostgresStore, batch: int = 500) -> Turn:
    return await take_turn(store.retention, store.clock.now() - DAY_MS, batch=batch, pause=nothing)


async def test_twenty_thousand_runs_are_deleted_by_index(fresh_database: str) -> None:
    """The tables have no statistics yet, as after a restore; nothing is scanned all the same."""
    await fill(fresh_database, MANY, OPEN)
    sql = load("pointsman.stores.postgres", "retention")
    connection, _ = await Server(fresh_database, SETTINGS).connect(module.SESSION)
    try:
        plans = {
            "delete": await connection.fetchval("EXPLAIN (FORMAT JSON) " + sql["delete"], OLD, DAY_MS, 500),
            "move": await connection.fetchval("EXPLAIN (FORMAT JSON) " + sql["move"], OLD, 2_900, 500, 20_000),
            "left": await connection.fetchval("EXPLAIN (FORMAT JSON) " + sql["left"], OLD),
        }
    finally:
        connection.terminate()
    for name, plan in plans.items():
        scans = [n for n in nodes(json.loads(plan)[0]["Plan"]) if "Scan" in n["Node Type"] and "Relation Name" in n]
        assert scans, name
        assert all("Index Cond" in scan or "Recheck Cond" in scan for scan in scans), (name, scans)
    began = time.monotonic()
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        turn = await retain(store)
        seconds = time.monotonic() - began
        row = dict(await observer.fetchrow(STATE))
    assert (turn.deleted, turn.moved, turn.dropped, turn.left) == (MANY + 1, OPEN, [OLD], [])
    assert row == {
        "runs": OPEN, "mails": OPEN, "tasks": OPEN, "reservations": 0, "events": 4 * OPEN, "is_dropped": True,
    }  # fmt: skip
    assert seconds < SECONDS_MAX, f"{seconds:.1f} s"


async def test_every_column_moves(fresh_database: str) -> None:
    bodies = [b'{"a": 1}', b'{"text":"' + b"y" * 5_000 + b'"}', b"\x00raw"]
    rows = "SELECT * FROM streams ORDER BY number, sequence"
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append([creation("a", bucket=OLD, bodies=bodies), creation("b", bucket=OLD)])
        await store.log.append([step("a", 3), step("b", 1)])
        before = [dict(row) for row in await observer.fetch(rows)]
        assert await store.retention.move(OLD, limit=10) == (2, 0)
        after = [dict(row) for row in await observer.fetch(rows)]
    assert {row.pop("bucket") for row in before} == {OLD}
    assert {row.pop("bucket") for row in after} == {store.bucket()}
    assert len(after) == 8
    assert after == before


async def test_a_turn_whose_connection_ends_between_any_two_steps_is_finished_by_the_next(fresh_database: str) -> None:
    await fill(fresh_database, 9, 5)
    steps, is_over = 0, False
    while not is_over:
        is_over = await stopped_after(fresh_database, steps)
        steps += 1
        async with opened(fresh_database) as store, connected(fresh_database) as observer:
            heads = await store.log.heads([f"open-{n}" for n in range(1, 6)])
            assert len(heads) == 5
            for run in heads:
                assert len(await store.log.read(run)) == 4
            if is_over:
                assert dict(await observer.fetchrow(STATE))["is_dropped"]
    assert steps > 4


async def stopped_after(dsn: str, steps: int) -> bool:
    """A turn whose process is gone after so many steps: its store closes, and nothing is said."""
    async with opened(dsn) as store:
        left = steps

        async def pause() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                await store.close()

        try:
            turn = await take_turn(store.retention, store.clock.now() - DAY_MS, batch=1, pause=pause)
        except StoreUnavailable:
            return False
        return not turn.left


async def detach_pending(observer: Any) -> bool:
    return bool(await observer.fetchval("SELECT bool_or(inhdetachpending) FROM pg_inherits"))


async def test_a_reader_that_takes_long_holds_the_drop_back_and_nobody_else(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detachment is left half done, and the next turn ends it."""
    monkeypatch.setitem(module.SESSION, "lock_timeout", "100")
    async with opened(fresh_database) as store, connected(fresh_database) as reader:
        await store.log.append([creation("kept", bucket=OLD), creation("gone", bucket=OLD)])
        await store.log.append([ending("gone", 1)])
        reading = reader.transaction(isolation="repeatable_read")
        await reading.start()
        assert await reader.fetchval("SELECT count(*) FROM streams") == 4
        assert await store.retention.move(OLD, limit=10) == (2, 0)
        assert await store.retention.drop(OLD) is False
        assert await store.retention.drop(OLD) is False
        assert OLD in await store.retention.past(store.clock.now())
        assert (await store.log.append([step("kept", 1)]))[0].outcome is Outcome.MOVED
        assert len(await store.log.read("kept")) == 3
        assert await reader.fetchval("SELECT count(*) FROM streams") == 4
        await reading.rollback()
        assert await store.retention.drop(OLD) is True
        assert len(await store.log.read("gone")) == 3
        assert OLD not in await store.retention.past(store.clock.now())


async def test_a_process_killed_while_it_detaches_leaves_nothing_that_stops_the_next(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as reader, connected(fresh_database) as other:
        await store.log.append([creation("kept", bucket=OLD)])
        await store.retention.move(OLD, limit=10)
        reading = reader.transaction()
        await reading.start()
        await reader.fetchval("SELECT count(*) FROM streams")
        dropping = asyncio.create_task(store.retention.drop(OLD))
        await until(lambda: detach_pending(other))
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE '%DETACH%' AND pid <> pg_backend_pid()"
        )
        with pytest.raises(StoreUnavailable):
            await dropping
        await reading.rollback()
        assert await detach_pending(other)
        assert await store.retention.drop(OLD) is True
        assert len(await store.log.read("kept")) == 1


async def test_what_is_detached_and_not_dropped_is_dropped(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as other:
        await store.log.append([creation("kept", bucket=OLD)])
        await store.retention.move(OLD, limit=10)
        await other.execute("ALTER TABLE streams DETACH PARTITION streams_1")
        assert OLD in await store.retention.past(store.clock.now())
        assert await store.retention.drop(OLD) is True
        assert await other.fetchval("SELECT to_regclass('streams_1')") is None


async def test_a_run_that_is_made_in_the_last_moment_keeps_its_bucket(fresh_database: str) -> None:
    """By a coordinator whose statement began before: it is seen only once the partition is detached."""
    async with opened(fresh_database) as store, connected(fresh_database) as late, connected(fresh_database) as other:
        await store.log.append([creation("old", bucket=OLD)])
        await store.retention.move(OLD, limit=10)
        making = late.transaction()
        await making.start()
        await late.execute(FILL, "late-", 1, OLD, False)
        dropping = asyncio.create_task(store.retention.drop(OLD))
        await until(lambda: detach_pending(other))
        await making.commit()
        assert await dropping is False
        assert len(await store.log.read("late-1")) == 4
        assert (await store.log.append([step("late-1", 4)]))[0].outcome is Outcome.MOVED
        assert await store.retention.move(OLD, limit=10) == (1, 0)
        assert await store.retention.drop(OLD) is True
        assert len(await store.log.read("late-1")) == 6


async def test_a_run_whose_head_is_held_does_not_hold_the_others(fresh_database: str) -> None:
    """Its bucket is left for the next turn."""
    async with opened(fresh_database) as store, connected(fresh_database) as holder:
        await store.log.append([creation("held", bucket=OLD), creation("free", bucket=OLD)])
        holding = holder.transaction()
        await holding.start()
        await holder.execute("SELECT FROM runs WHERE id = 'held' FOR UPDATE")
        turn = await retain(store)
        assert (turn.moved, turn.dropped, turn.left) == (1, [], [OLD])
        await holding.rollback()
        turn = await retain(store)
        assert (turn.moved, turn.dropped, turn.left) == (1, [OLD], [])


async def test_a_child_whose_parent_is_just_being_redriven_is_kept(fresh_database: str) -> None:
    """The redrive is not committed when the deletion looks, and its parent still shows as ended."""
    async with opened(fresh_database) as store, connected(fresh_database) as redriving:
        await store.log.append([creation("parent", bucket=OLD), creation("child", bucket=OLD, parent="parent")])
        await store.log.append([ending("child", 1), ending("parent", 1)])
        before = store.clock.now() + 60_000
        transaction = redriving.transaction()
        await transaction.start()
        await redriving.execute("UPDATE runs SET ended_at = NULL, status = 'running' WHERE id = 'parent'")
        assert await store.retention.delete(before, limit=10) == 0
        await transaction.commit()
        assert await store.retention.delete(before, limit=10) == 0
        await redriving.execute("UPDATE runs SET ended_at = now(), status = 'failed' WHERE id = 'parent'")
        assert await store.retention.delete(before, limit=10) == 1
        assert (await store.log.heads(["parent", "child"])).keys() == {"parent"}


async def test_a_long_run_moves_alone(fresh_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement moves a limited number of events, so that owners never wait long for their heads."""
    monkeypatch.setattr(module, "EVENTS_MAX", 6)
    async with opened(fresh_database) as store:
        batch = [creation(f"run-{n}", bucket=OLD, bodies=[b"{}"] * (20 if n == 0 else 3)) for n in range(4)]
        await store.log.append(batch)
        moves = []
        while not moves or moves[-1][1]:
            moves.append(await store.retention.move(OLD, limit=10))
        assert moves == [(1, 3), (2, 1), (1, 0)]


@pytest.mark.slow
async def test_retention_is_killed_again_and_again_under_load(fresh_database: str) -> None:
    """Real processes, SIGKILL at any moment, while owners append: nothing that is kept is lost."""
    await fill(fresh_database, 3_000, 300)
    runs = [f"open-{n}" for n in range(1, 301)]
    command = [sys.executable, "-m", "pointsman.cli.main", "retention", "--store", fresh_database, "--days", "1"]
    chance, kills = random.Random(4), 0
    async with opened(fresh_database) as store:
        sequences = dict.fromkeys(runs, 4)
        is_over = asyncio.Event()

        async def write() -> None:
            while not is_over.is_set():
                some = chance.sample(runs, 20)
                for result in await store.log.append([step(run, sequences[run]) for run in some]):
                    assert result.outcome is Outcome.MOVED
                for run in some:
                    sequences[run] += 2
                await asyncio.sleep(0.002)

        async with connected(fresh_database) as observer:
            await observer.execute("UPDATE runs SET owner = 1, status = 'running' WHERE ended_at IS NULL")
        writer = asyncio.create_task(write())
        for _ in range(6):
            process = await asyncio.create_subprocess_exec(
                *command, "--apply", "--batch", "50", stdout=asyncio.subprocess.DEVNULL, env={**os.environ}
            )
            try:
                await asyncio.wait_for(process.wait(), chance.uniform(1.0, 2.5))
            except TimeoutError:
                kills += 1
                process.send_signal(signal.SIGKILL)
                await process.wait()
        assert kills, "no process was killed in the middle"
        final = await asyncio.create_subprocess_exec(*command, "--apply", stdout=asyncio.subprocess.DEVNULL)
        assert await final.wait() == 0
        is_over.set()
        await writer
        assert {head.bucket for head in (await store.log.heads(runs)).values()} == {store.bucket()}
        for run, sequence in sequences.items():
            assert [row.sequence for row in await store.log.read(run)] == list(range(1, sequence + 1))
        async with connected(fresh_database) as observer:
            assert dict(await observer.fetchrow(STATE))["is_dropped"]


async def test_two_at_once_do_it_once(fresh_database: str) -> None:
    await fill(fresh_database, 300, 40)
    async with opened(fresh_database) as one, opened(fresh_database) as other:
        turns = await asyncio.gather(retain(one, 20), retain(other, 20))
    assert sum(turn.deleted for turn in turns) == 301
    assert sum(turn.moved for turn in turns) == 40
    assert [OLD] in [turn.dropped for turn in turns]


async def test_a_drop_leaves_a_bucket_to_whoever_is_at_it(fresh_database: str) -> None:
    """Whoever drops holds a lock of its session."""
    async with opened(fresh_database) as store, connected(fresh_database) as other:
        await store.log.append([creation("kept", bucket=OLD)])
        await store.retention.move(OLD, limit=10)
        assert await other.fetchval(load("pointsman.stores.postgres", "retention")["try_lock"])
        assert await store.retention.drop(OLD) is False
        assert await other.fetchval(load("pointsman.stores.postgres", "retention")["unlock"])
        assert await store.retention.drop(OLD) is True


async def test_a_run_that_is_repaired_while_it_moves_stays_where_its_events_are(
    fresh_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair may leave the sequence as it was, and put another event in the place of the last one."""
    held = "SELECT pg_advisory_xact_lock_shared(4711), id, sequence, epoch FROM runs WHERE bucket = $1 LIMIT $3"
    plain = "SELECT id, sequence, epoch FROM runs WHERE bucket = $1 LIMIT $3"
    assert plain in module._SQL["move"]
    monkeypatch.setitem(module._SQL, "move", module._SQL["move"].replace(plain, held))
    async with opened(fresh_database) as store, connected(fresh_database) as other:
        await store.log.append([creation("run", bucket=OLD)])
        await other.execute("SELECT pg_advisory_lock(4711)")
        moving = asyncio.create_task(store.retention.move(OLD, limit=10))
        await until(lambda: other.fetchval("SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        await other.execute("UPDATE runs SET epoch = epoch + 1")
        await other.execute("SELECT pg_advisory_unlock(4711)")
        assert await moving == (0, 1)
