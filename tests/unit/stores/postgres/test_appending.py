"""Appends: the plan, what they cost, and what they do with partitions, odd bodies and places that are taken."""

import asyncio
import json
import random

import asyncpg
import pytest

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Letter, Outcome
from pointsman.ports.human_tasks import TaskRow
from pointsman.ports.reservations import ReservationRow
from pointsman.stores import payload
from pointsman.stores.postgres import PostgresStore
from pointsman.stores.postgres import batch as batches
from pointsman.stores.postgres.appending import SESSION
from pointsman.stores.postgres.server import Server
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import BODY, SETTINGS, connected, creation, opened, step, until

pytestmark = pytest.mark.postgres

GROWN_RUNS = 3_000
WAL_BYTES_PER_STEP_MAX = 1_400
WAL_BYTES_PER_END_MAX = 570
HOT_RATIO_MIN = 0.95
STATEMENTS = {"append": 41, "append_rows": 59, "append_family": 65}
"""How many parameters each has."""


async def grow(store: PostgresStore, runs: int, prefix: str = "run") -> list[str]:
    names = [f"{prefix}-{number:06}-of-many" for number in range(runs)]
    for first in range(0, runs, 100):
        batch = [creation(name, bucket=store.bucket()) for name in names[first : first + 100]]
        results = await store.log.append(batch)
        assert all(result.outcome is Outcome.MOVED for result in results)
    return names


async def test_the_plan_of_a_grown_table_scans_nothing(fresh_database: str) -> None:
    """Planned while the table is small, as a coordinator does, and looked at when it is not."""
    statements = load("pointsman.stores.postgres", "append")
    server = Server(fresh_database, SETTINGS)
    connection, _ = await server.connect(SESSION)
    try:
        plans = {}
        async with opened(fresh_database) as store:
            for name, count in STATEMENTS.items():
                await connection.execute(f"PREPARE {name} AS {statements[name]}")
                nothing = ", ".join(["NULL"] * count)
                await connection.fetch(f"EXECUTE {name}({nothing})")
            await grow(store, GROWN_RUNS)
            for name, count in STATEMENTS.items():
                nothing = ", ".join(["NULL"] * count)
                rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE {name}({nothing})")
                plans[name] = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
    finally:
        connection.terminate()
    for name, plan in plans.items():
        scans = [node for node in plan if "Scan" in node["Node Type"] and "Relation Name" in node]
        assert all("Index Cond" in node or "Recheck Cond" in node for node in scans), (name, scans)
        assert "runs_pkey" in [node.get("Index Name") for node in scans], (name, scans)


def nodes(plan):  # type: ignore[no-untyped-def]
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def test_heads_are_updated_hot_and_the_log_stays_small(fresh_database: str) -> None:
    """No index may name a column that every append changes; batches of 50 move whole pages of heads at once."""
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        names = await grow(store, 500)
        await observer.execute("CHECKPOINT")
        for name in names[:50]:  # full page images of the first touch are not what is measured
            await store.log.append([step(name, 1)])
        before = await observer.fetchval("SELECT pg_current_wal_insert_lsn()")
        steps = 0
        for turn in range(4):
            for lane, first in enumerate(range(50, 500, 50)):
                batch = [step(name, 1 + 2 * turn) for name in names[first : first + 50]]
                results = await store.log.append(batch, lane=lane)
                assert all(result.outcome is Outcome.MOVED for result in results)
                steps += len(batch)
        wal = await observer.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", before)
    async with connected(fresh_database) as observer:

        async def updates() -> asyncpg.Record | None:
            row = await observer.fetchrow(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'runs'"
            )
            return row if row is not None and row["n_tup_upd"] >= steps else None

        row = await until(updates)
        assert row is not None
        assert row["n_tup_hot_upd"] / row["n_tup_upd"] >= HOT_RATIO_MIN, dict(row)
    assert float(wal) / steps <= WAL_BYTES_PER_STEP_MAX, f"{float(wal) / steps:.0f} bytes of WAL a step"


async def test_the_end_of_a_run_logs_only_the_columns_that_it_changes(fresh_database: str) -> None:
    """The log of an update holds all bytes from the first changed one to the last, so the order of columns decides."""
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        names = await grow(store, 500)
        log = []
        for first in range(0, 500, 50):
            ends = [step(name, 1, bodies=[b"{}"]) for name in names[first : first + 50]]
            for end in ends:
                end.status, end.owner, end.closes = "completed", None, True
            before = await observer.fetchval("SELECT pg_current_wal_insert_lsn()")
            results = await store.log.append(ends)
            assert all(result.outcome is Outcome.MOVED for result in results)
            log.append(await observer.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", before))
    fewest = float(min(log)) / 50  # other batches split pages of indexes too
    assert fewest <= WAL_BYTES_PER_END_MAX, f"{fewest:.0f} bytes of WAL an end"


async def test_bodies_lie_as_json_or_packed(fresh_database: str) -> None:
    bodies = [BODY, b'{"a":-0.0,"a":1e2}', b'{"text":"' + b"y" * 5_000 + b'"}', b'{"pieces":[[3]]}\n\x00\xff\x80']
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append([creation("run", bodies=bodies)])
        rows = await observer.fetch("SELECT codec, body::text, length(packed) AS packed FROM events ORDER BY sequence")
        assert [row["codec"] for row in rows] == [payload.PLAIN, payload.PLAIN, payload.ZSTD, payload.RAW]
        assert rows[1]["body"] == '{"a":-0.0,"a":1e2}'
        assert rows[2]["body"] == "null"
        assert rows[2]["packed"] < 200
        assert [recorded.body for recorded in await store.log.read("run")] == bodies
        assert (
            await observer.fetchval("SELECT body->>'call' FROM events WHERE run = 'run' AND sequence = 1") == "triage#1"
        )


@pytest.mark.parametrize(
    "body", [b"{not json}", b'{"a":01}', b'{"a":"\xff"}', b'{"a":"\x00"}', b"{" * 400 + b"}" * 400]
)
async def test_what_looks_like_json_and_is_none_comes_back(body: bytes, fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        results = await store.log.append([creation("odd", bodies=[body]), creation("even", bodies=[BODY])])
        assert [result.outcome for result in results] == [Outcome.MOVED, Outcome.MOVED]
        assert [recorded.body for recorded in await store.log.read("odd")] == [body]


BREAKS = ["\r", "\r\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\\n", "\\\\n", "", " "]
"""What one or another takes for the end of a line; bodies travel as lines."""


async def test_bodies_keep_their_places_whatever_stands_in_them(fresh_database: str) -> None:
    plain = [f'{{"a":"{text}"}}'.encode() for text in BREAKS] + [b"{}", b'{\r"a":\r1\t}']
    packed = [
        b"",
        b"\n",
        b"\n\n",
        b"{}\n",
        b"\n{}",
        b'{"a":1}\n{"b":2}',
        b"null",
        b"{",
        b'{"text":"' + b"y" * 5_000 + b'"}',
    ]
    chance = random.Random(1)
    async with opened(fresh_database) as store:
        for number in range(40):
            bodies = [chance.choices(plain + packed * (number % 3), k=chance.randrange(1, 5)) for _ in range(5)]
            results = await store.log.append([creation(f"{number}-{n}", bodies=body) for n, body in enumerate(bodies)])
            assert {result.outcome for result in results} == {Outcome.MOVED}
            for n, body in enumerate(bodies):
                assert [recorded.body for recorded in await store.log.read(f"{number}-{n}")] == body


@pytest.mark.parametrize("bucket", [0, -3, 12, 99_999])
async def test_a_missing_partition_is_made_on_demand(bucket: int, fresh_database: str) -> None:
    async with opened(fresh_database) as one, opened(fresh_database) as other:
        results = await asyncio.gather(
            one.log.append([creation("a", bucket=bucket)]), other.log.append([creation("b", bucket=bucket)])
        )
        assert [result.outcome for batch in results for result in batch] == [Outcome.MOVED] * 2
        assert len(await one.log.read("b")) == 1


async def test_partitions_of_this_week_and_the_next_are_there(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        for bucket in (store.bucket(), store.bucket() + 1):
            assert await observer.fetchval("SELECT to_regclass($1)::text", f"streams_{bucket}") is not None


async def test_a_place_that_is_taken_past_the_head_is_a_conflict_of_that_run_alone(fresh_database: str) -> None:
    """The primary key is the second fence, behind the head's."""
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append([creation(run, bucket=store.bucket()) for run in ("a", "b", "c")])
        await observer.execute(
            "INSERT INTO streams (number, bucket, sequence, epoch, at, xid, checksum, version, type) "
            "SELECT number, bucket, 3, 1, 0, 3, 0, 1, 'Intruder' FROM runs WHERE id = 'b'"
        )
        results = await store.log.append(
            [step("a", 1), step("b", 1), step("c", 1), creation("d", bucket=store.bucket())]
        )
        assert [result.outcome for result in results] == [
            Outcome.MOVED, Outcome.CONFLICT, Outcome.MOVED, Outcome.MOVED,
        ]  # fmt: skip
        heads = await store.log.heads(["a", "b", "c"])
        assert [heads[run].sequence for run in ("a", "b", "c")] == [3, 1, 3]


async def test_text_that_postgresql_cannot_hold_names_its_cause(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        with pytest.raises(InvalidValue, match="0x00"):
            await store.log.append([creation("a\x00b")])
        with pytest.raises(InvalidValue, match="surrogates"):
            await store.log.append([creation("\ud800")])
        assert (await store.log.append([creation("fine")]))[0].outcome is Outcome.MOVED


def test_the_shortest_statement_is_chosen() -> None:
    plain, asking, spending = step("a", 1), step("b", 1), step("c", 1)
    ending, child = step("d", 1), creation("e", parent="a")
    asking.tasks = (TaskRow("task", "ask#1", "open", "Well?", b"{}", 1),)
    spending.reservations = (ReservationRow("tranche", 2),)
    ending.letter = Letter("parent", "key", "child", b"{}")
    for batch, name in (
        ([plain], "append"),
        ([plain, asking], "append_rows"),
        ([spending, plain], "append_rows"),
        ([asking, ending], "append_family"),
        ([child, spending], "append_family"),
    ):
        ordered = batches.in_order(batch)
        assert batches.statement(batch) == name
        assert len(batches.parameters(name, ordered, 2_560)) == STATEMENTS[name]


def test_what_no_statement_can_hold_is_refused_before() -> None:
    with pytest.raises(ValueError, match="once in a batch"):
        batches.check([step("a", 1), step("a", 3)])
    ending = step("child", 1)
    ending.letter = Letter("parent", "key", "child", b"{}")
    with pytest.raises(ValueError, match="in the same batch"):
        batches.check([ending, step("parent", 1)])
    with pytest.raises(ValueError, match="no sequence"):
        batches.check([step("a", 2**31)])
    short = step("a", 1)
    short.nonce = b"1234567"  # they travel one after the other: a short one would shift all that follow
    with pytest.raises(ValueError, match="a nonce has 8 bytes"):
        batches.check([step("b", 1), short])
