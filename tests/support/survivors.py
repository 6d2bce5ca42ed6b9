"""What tests of deaths and partitions share: runs under way, who owns them, and what was repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pointsman.demo import journal
from pointsman.demo.counting import completed_calls_repeated
from tests.support.fleet import Fleet, Member
from tests.support.http import Connection

T = TypeVar("T")
PATIENCE_S = 30.0


async def until(probe: Callable[[], Awaitable[T]], patience_s: float = PATIENCE_S) -> T:
    """The first true answer."""
    async with asyncio.timeout(patience_s):
        while not (answer := await probe()):
            await asyncio.sleep(0.02)
    return answer


async def start(member: Member, workflow: str, data: Any, runs: Iterable[str]) -> list[str]:
    connection, started = Connection(member.port), []
    try:
        for run in runs:
            answer = await connection.request("POST", "/v1/runs", {"workflow": workflow, "id": run, "input": data})
            assert answer.status == 201, answer.body
            started.append(run)
    finally:
        connection.close()
    return started


async def started_on_all(members: Fleet, count: int) -> list[str]:
    """So many runs on each coordinator, all of them under way until the test says that it is enough."""
    runs: list[str] = []
    for member in members.members.values():
        runs += await start(member, "endless", None, [f"{member.name}-{number}" for number in range(count)])
    return runs


async def living(members: Fleet) -> dict[str, int]:
    """Incarnations by name."""
    rows = await members.query("SELECT name, incarnation FROM coordinators WHERE ended_at IS NULL")
    return {row["name"]: row["incarnation"] for row in rows}


async def owned(members: Fleet, incarnation: int) -> dict[str, int]:
    """Its runs, with their epochs."""
    rows = await members.query("SELECT id, epoch FROM runs WHERE owner = $1", incarnation)
    return {row["id"]: row["epoch"] for row in rows}


async def completed(members: Fleet, runs: Iterable[str]) -> None:
    """Waits until all of them are."""
    wanted = list(runs)
    query = "SELECT id, status FROM runs WHERE id = ANY ($1) AND status <> 'completed'"
    try:
        await until(lambda: _none(members, query, wanted))
    except TimeoutError as error:
        raise AssertionError([dict(row) for row in await members.query(query, wanted)]) from error


async def _none(members: Fleet, query: str, wanted: list[str]) -> bool:
    return not await members.query(query, wanted)


async def committed_calls_repeated(members: Fleet, path: Path) -> set[str]:
    """Idempotency keys of calls that were made again although their outcome was committed."""
    rows = await members.query("SELECT run, epoch, body FROM events WHERE type IN ('CallCompleted', 'CallFailed')")
    epochs = {f"{row['run']}/1/{msgspec.json.decode(row['body'])['call']}": row["epoch"] for row in rows}
    return completed_calls_repeated(list(journal.read(path)), epochs)
