"""Reads that end by bytes: what they look at to find where."""

import json
import random

import pytest

from pointsman.ports.event_log import size_of, was_cut
from pointsman.stores.postgres import PostgresSettings
from pointsman.stores.postgres.server import Server
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import SETTINGS, creation, opened
from tests.unit.stores.postgres.test_appending import grow, nodes

pytestmark = pytest.mark.postgres

RAISED = PostgresSettings(loop_stall_exits=False, plain_json_bytes_max=1_000_000)
SESSION = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
LARGE = 200_000
_noise = random.Random(3)


def large() -> bytes:
    return b'{"text":"' + _noise.randbytes(LARGE // 2).hex().encode() + b'"}'


@pytest.mark.parametrize("settings", [SETTINGS, RAISED], ids=["packed", "plain"])
async def test_sizes_are_taken_without_fetching_what_is_large(fresh_database: str, settings: PostgresSettings) -> None:
    """Planned while the tables are small, and looked at when they are not: each run's events come from the primary key,
    up to its limit, and of values that stand elsewhere only those are touched that are given."""
    query = load("pointsman.stores.postgres", "log")["read_within"]
    connection, _ = await Server(fresh_database, settings).connect(SESSION)
    runs = [f"run-{n}" for n in range(8)]
    try:
        async with opened(fresh_database, settings) as store:
            await connection.execute(f"PREPARE look AS {query}")
            await connection.fetch("EXECUTE look('{}', '{}', 200, 1)")
            await grow(store, 2_000, "other")
            await store.log.append([creation(run, bodies=[large() for _ in range(4)]) for run in runs])
            given = f"'{{{','.join(runs)}}}', '{{{','.join('0' * len(runs))}}}', 200, {2 * LARGE}"
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE look({given})")
            found = await store.log.read_many(dict.fromkeys(runs, 0), limit=200, bytes_max=LARGE)
    finally:
        connection.terminate()
    plan = json.loads(rows[0][0])[0]["Plan"]
    scans = [node for node in nodes(plan) if "Relation Name" in node and node["Actual Loops"]]
    assert all("Index Cond" in node for node in scans), scans
    assert {node["Index Name"].rpartition("_")[2] for node in scans} == {"pkey"}, scans
    assert any(node["Node Type"] == "Limit" and node["Actual Loops"] == len(runs) for node in nodes(plan))
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200, "values were fetched for their sizes"
    sequences = [[row.sequence for row in found[run]] for run in runs]
    assert sequences[1:] == [[]] * 7
    assert sequences[0] in ([1], [1, 2]), "the text of hexadecimal digits is stored in about half of its bytes"


async def test_what_postgresql_compresses_counts_as_it_is_kept_and_no_page_hides_what_is_left(
    fresh_database: str,
) -> None:
    """With a raised `plain_json_bytes_max`, where its own compression sees large values."""
    bodies = [large(), b'{"text":"' + b"x" * LARGE + b'"}', large(), b'{"text":"' + b"ab" * 1_200 + b'"}', b"{}"] * 2
    async with opened(fresh_database, RAISED) as store:
        await store.log.append([creation("run", bodies=bodies)])
        whole = await store.log.read("run")
        for bytes_max in (1, 2_000, LARGE, 3 * LARGE):
            read, is_cut = whole[:0], True
            while is_cut:
                page = await store.log.read("run", after=len(read), bytes_max=bytes_max)
                is_cut = was_cut(page, 1_000, bytes_max)
                assert page or not is_cut
                read += page
            assert read == whole, bytes_max
        assert len(await store.log.read("run", bytes_max=3 * LARGE)) < len(whole)
        assert await store.log.read("run", bytes_max=int(size_of(whole)) + 1) == whole
