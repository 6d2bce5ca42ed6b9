"""The rows that appends write beside their events: which index serves them, and what stays as cheap as it was."""

import json

import pytest

from pointsman.ports.event_log import Append, Outcome
from pointsman.ports.human_tasks import TaskFilter, TaskRow
from pointsman.ports.reservations import ReservationRow
from pointsman.stores.queries import load
from tests.unit.stores.postgres.helpers import connected, creation, opened, step
from tests.unit.stores.postgres.test_appending import nodes

pytestmark = pytest.mark.postgres


def asking(append: Append, *statuses: str) -> Append:
    append.tasks = tuple(TaskRow(f"of {append.run}", "ask#1", status, "Well?", b"{}", 1_000) for status in statuses)
    return append


async def test_the_open_tasks_are_read_from_their_own_index(fresh_database: str) -> None:
    query = load("pointsman.stores.postgres", "human_tasks")["list"]
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append([asking(creation(f"run-{number:02}"), "open") for number in range(40)])
        await observer.execute(
            "INSERT INTO human_tasks SELECT to_timestamp(n), now(), 0, 'old-' || n, 'run-01', 'c', 'closed', 'q', '{}' "
            "FROM generate_series(1, 5000) n"
        )
        await observer.execute("ANALYZE human_tasks; ANALYZE runs; SET plan_cache_mode = force_custom_plan")
        await observer.execute(f"PREPARE look AS {query}")
        for arguments, index in (
            ("'{open}', NULL, NULL, NULL, NULL, 51, NULL, NULL", "human_tasks_open"),
            ("NULL, NULL, NULL, to_timestamp(4000), 'old-1', 51, NULL, NULL", "human_tasks_oldest"),
            ("NULL, NULL, 'run-07', NULL, NULL, 51, NULL, NULL", "human_tasks_run"),
        ):
            rows = await observer.fetch(f"EXPLAIN (FORMAT JSON) EXECUTE look({arguments})")
            plan = list(nodes(json.loads(rows[0][0])[0]["Plan"]))
            assert index in [node.get("Index Name") for node in plan], (arguments, plan)
        assert len((await store.human_tasks.list(TaskFilter(status=("open",))))[0]) == 40


async def test_batches_that_are_sent_again_write_their_rows_once(fresh_database: str) -> None:
    """A partition that is missing, a body that is no JSON, a place that is taken: each sends the batch once more."""
    async with opened(fresh_database) as store, connected(fresh_database) as observer:
        await store.log.append([creation("taken", bucket=store.bucket())])
        await observer.execute(
            "INSERT INTO streams (number, bucket, sequence, epoch, at, xid, checksum, version, type) "
            "SELECT number, bucket, 2, 1, 0, 3, 0, 1, 'Intruder' FROM runs WHERE id = 'taken'"
        )
        batch = [
            asking(creation("far", bucket=99_999), "open", "answered"),
            asking(creation("odd", bodies=[b"{not json}"]), "open"),
            asking(step("taken", 1), "open"),
        ]
        for append in batch:
            append.reservations = (ReservationRow("tranche", append.expected + 1),)
        results = await store.log.append(batch)
        assert [result.outcome for result in results] == [Outcome.MOVED, Outcome.MOVED, Outcome.CONFLICT]
        tasks, _ = await store.human_tasks.list(TaskFilter())
        assert [(task.run, task.status) for task in tasks] == [("far", "answered"), ("odd", "open")]
        assert [row.run for row in await store.reservations.of("tranche")] == ["far", "odd"]


async def test_rows_cost_no_locks_of_a_family(fresh_database: str) -> None:
    """A call under a shared budget pays for its reservation, not for a lock on its head before the update."""
    statements = load("pointsman.stores.postgres", "append")
    assert "FOR UPDATE" in statements["append_family"]
    assert "FOR UPDATE" not in statements["append_rows"]
    assert "human_tasks" not in statements["append"]
    assert "reservations" not in statements["append"]
