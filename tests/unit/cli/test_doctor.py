"""`pointsman doctor`: looks without changing, repairs only what it is told to, and says so by its exit code."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.stores.postgres import migrate
from tests.unit.stores.postgres.helpers import connected, opened
from tests.unit.stores.postgres.test_damage import creation_of

pytestmark = pytest.mark.postgres

BODY = b'{"call":"a#1","output":1}'


async def fill(dsn: str, sql: str = "") -> None:
    await migrate(dsn)
    async with opened(dsn) as store, connected(dsn) as connection:
        await store.log.append([creation_of(run, [BODY] * 5) for run in ("a", "b", "c")])
        await connection.execute("UPDATE runs SET owner = NULL, wake_at = now()")
        await connection.execute(sql)


async def statuses(dsn: str) -> dict[str, int]:
    async with connected(dsn) as connection:
        return {row["id"]: row["sequence"] for row in await connection.fetch("SELECT id, sequence FROM runs")}


def doctor(*words: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["doctor", *words])
    return result.exit_code, result.stdout or result.stderr


CHANGE = (
    "UPDATE streams s SET at = at + 1 FROM runs r WHERE r.number = s.number AND r.id IN ('a', 'b') AND s.sequence = 3"
)


def test_it_repairs_what_it_is_told_to_and_nothing_else(fresh_database: str) -> None:
    asyncio.run(fill(fresh_database, CHANGE))
    code, said = doctor("--store", fresh_database)
    assert code == 1
    assert "run a: event 3, a CallCompleted, is not what was appended" in said
    assert "run b: event 3" in said
    assert "run c" not in said
    assert asyncio.run(statuses(fresh_database)) == {"a": 5, "b": 5, "c": 5}
    code, said = doctor("--store", fresh_database, "--run", "a", "--repair", "--json")
    assert code == 0
    (done,) = json.loads(said)["repairs"]
    assert done["run"] == "a"
    assert asyncio.run(statuses(fresh_database)) == {"a": 3, "b": 5, "c": 5}
    code, said = doctor("--store", fresh_database, "--repair", "--all")
    assert "run b: events 3 to 5 were moved to quarantined_events" in said
    assert asyncio.run(statuses(fresh_database)) == {"a": 3, "b": 3, "c": 5}
    look = json.loads(doctor("--store", fresh_database, "--json")[1])
    assert [finding for finding in look["findings"] if finding["check"] == "log"] == []


def test_what_cannot_be_repaired_is_said_and_is_no_success(fresh_database: str) -> None:
    asyncio.run(fill(fresh_database, "DELETE FROM streams WHERE sequence = 1"))
    code, said = doctor("--store", fresh_database, "--run", "a", "--repair")
    assert code == 1
    assert "under another id" in said


def test_a_database_from_the_future_is_refused_with_what_to_do(fresh_database: str) -> None:
    asyncio.run(
        fill(fresh_database, "INSERT INTO migrations (number, phase, name, digest) VALUES (99, 'pre', 'later', '')")
    )
    code, said = doctor("--store", fresh_database)
    assert code == 3
    assert "schema_from_future: the database's schema is at migration 99" in said
    assert "deploy a newer release" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "--store is missing"),
        (("--store", "postgresql://x", "--repair"), "--run ID, or --all"),
        (("--store", "postgresql://x", "--all"), "goes with that"),
        (("--store", "postgresql://x", "--repair", "--all", "--run", "a"), "not with --run"),
    ],
)
def test_a_command_line_that_does_not_say_enough(
    words: tuple[str, ...], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POINTSMAN_STORE", raising=False)
    code, said = doctor(*words)
    assert code == 2
    assert complaint in said
