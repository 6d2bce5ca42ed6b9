"""Lists of runs: what finds them in a table that has grown."""

from __future__ import annotations

import json

import msgspec
import pytest

from pointsman.ports.event_log import RunFilter
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import connected, creation, opened
from tests.unit.stores.postgres.test_appending import nodes

pytestmark = pytest.mark.postgres
RUNS, CUSTOMERS = 4_000, 800


async def test_runs_are_found_by_their_attributes_through_the_index(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append(
            [
                creation(f"run-{number}", attributes={"customer": f"c{number % CUSTOMERS}", "tier": number % 3})
                for number in range(RUNS)
            ]
        )
        await store.log.append([creation(f"bare-{number}") for number in range(RUNS)])
        await observer.execute("ANALYZE runs; SET plan_cache_mode = force_custom_plan")
        await observer.execute(f"PREPARE look AS {load('pointsman.stores.postgres', 'log')['list_runs']}")
        wanted = {"customer": "c7", "tier": 1}
        given = f"NULL, false, NULL, NULL, '{msgspec.json.encode(wanted).decode()}', NULL, 51"
        rows = await observer.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE look({given})")
        plan = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
        assert "runs_attributes" in [node.get("Index Name") for node in plan], plan
        assert "Seq Scan" not in [node["Node Type"] for node in plan], plan
        found, cursor = await store.log.list_runs(RunFilter(attributes=wanted))
        expected = [n for n in range(RUNS) if n % CUSTOMERS == 7 and n % 3 == 1]
        assert (sorted(head.id for head in found), cursor) == (sorted(f"run-{n}" for n in expected), None)
