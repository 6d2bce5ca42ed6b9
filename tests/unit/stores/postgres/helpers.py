"""What tests of the PostgreSQL store share: appends, opened stores, waiting for something to become true."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg

from pointsman.ports.event_log import Append, NewEvent, NewRun
from pointsman.ports.ownership import Definition
from pointsman.stores.postgres import PostgresSettings, PostgresStore

T = TypeVar("T")

SETTINGS = PostgresSettings(loop_stall_exits=False)
DEFINITION = Definition("support", 1, "build")
PATIENCE_S = 15.0
BODY = b'{"call":"triage#1","output":"' + b"x" * 221 + b'"}'

_nonces = itertools.count(1)


def events(bodies: Sequence[bytes]) -> list[NewEvent]:
    return [NewEvent("CallCompleted", 1, 1_700_000_000_000, body) for body in bodies]


def creation(run: str, *, bodies: Sequence[bytes] = (BODY,), owner: int = 1, bucket: int = 0, **new: Any) -> Append:
    return Append(
        run=run, epoch=1, expected=0, nonce=next(_nonces).to_bytes(8), events=events(bodies), status="running",
        owner=owner, create=NewRun("support", 1, "build", bucket, "digest", **new),
    )  # fmt: skip


def step(run: str, expected: int, *, bodies: Sequence[bytes] = (BODY, BODY), owner: int = 1) -> Append:
    return Append(
        run=run, epoch=1, expected=expected, nonce=next(_nonces).to_bytes(8), events=events(bodies),
        status="running", owner=owner,
    )  # fmt: skip


@asynccontextmanager
async def opened(dsn: str, settings: PostgresSettings = SETTINGS) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(dsn, settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def connected(dsn: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def until(probe: Callable[[], Awaitable[T]]) -> T:
    """The first true answer."""
    async with asyncio.timeout(PATIENCE_S):
        while not (answer := await probe()):
            await asyncio.sleep(0.01)
    return answer
