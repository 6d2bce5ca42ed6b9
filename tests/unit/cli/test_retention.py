"""`pointsman retention`: shows without changing, applies only when told for how long."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.ports.retention import BUCKET_MS
from pointsman.stores.postgres import migrate
from tests.unit.stores.postgres.helpers import connected, creation, opened
from tests.unit.stores.postgres.test_retention import ending

pytestmark = pytest.mark.postgres


async def fill(dsn: str) -> None:
    await migrate(dsn)
    async with opened(dsn) as store, connected(dsn) as connection:
        await store.log.append([creation("ended", bucket=1), creation("open", bucket=1), creation("new", bucket=2)])
        await store.log.append([ending("ended", 1)])
        await connection.execute("UPDATE runs SET ended_at = '1970-01-10' WHERE id = 'ended'")


def pointsman(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["retention", *words])
    return result.exit_code, result.output if result.exit_code == 0 else result.stderr


def test_it_shows_first_and_deletes_when_told(fresh_database: str) -> None:
    asyncio.run(fill(fresh_database))
    code, shown = pointsman("--store", fresh_database, "--days", "30")
    assert code == 0
    first = next(line for line in shown.splitlines() if line.startswith("1 "))
    assert first.split()[:4] == ["1", "1970-01-08", "2", "1"]
    assert first.endswith("past")
    for _ in range(2):
        code, said = pointsman("--store", fresh_database, "--json", "--days", "30")
        found = {bucket["bucket"]: bucket for bucket in json.loads(said)["buckets"]}
        assert (found[1]["runs"], found[1]["open_runs"], found[1]["past"]) == (2, 1, True)
        assert json.loads(said)["applied"] is None
    code, said = pointsman("--store", fresh_database, "--json", "--days", "30", "--apply", "--batch", "1")
    assert code == 0
    assert json.loads(said)["applied"] == {"deleted": 1, "moved": 2, "dropped": [1, 2], "left": []}
    left = [bucket for bucket in json.loads(said)["buckets"] if bucket["runs"]]
    (current,) = left
    assert (current["runs"], current["open_runs"], current["past"]) == (2, 2, False)
    assert current["bucket"] * BUCKET_MS > 0


def test_it_deletes_nothing_that_nobody_asked_for(fresh_database: str) -> None:
    asyncio.run(fill(fresh_database))
    code, said = pointsman("--store", fresh_database, "--apply")
    assert code == 2
    assert "--days" in said
    code, said = pointsman("--store", fresh_database, "--json")
    assert sum(bucket["runs"] for bucket in json.loads(said)["buckets"]) == 3
    assert not any(bucket["past"] for bucket in json.loads(said)["buckets"])


def test_it_says_what_it_wants() -> None:
    code, said = pointsman("--days", "30")
    assert code == 2
    assert "--store" in said
    code, _ = pointsman("--store", "postgresql://nobody@127.0.0.1:1/none")
    assert code == 3
