"""Append: one autocommit statement for a whole batch, and how to interpret the runs that it did not move."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import asyncpg

from pointsman.kernel.errors import InvalidValue, StoreRefused, StoreUnavailable
from pointsman.ports.event_log import Append, AppendResult, Outcome
from pointsman.stores.postgres import batch as batches
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.partitions import make_partitions
from pointsman.stores.postgres.server import Server
from pointsman.stores.queries import load

LANES = 2
ATTEMPTS_MAX = 5
"""How often a batch is sent at most: a partition may be missing, a body not be JSON, places and keys be taken."""
SESSION = {
    # A plan made while the tables are small would scan them later: 48 µs a step instead of 19.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}

_SQL = load(__package__, "append")


class Appender:
    """Appends batches over the lanes, with a connection each: one lane never waits for the other's round trip."""

    def __init__(self, server: Server, readers: Pool) -> None:
        self._server = server
        self._readers = readers
        self._lanes = [Link(server, SESSION, appends=True) for _ in range(LANES)]

    async def warm_up(self) -> None:
        """Connect now, so that the first append need not."""
        for lane in self._lanes:
            await lane.call(lambda connection: connection.fetchval("SELECT 1"))

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.close()

    async def append(self, batch: Sequence[Append], lane: int) -> list[AppendResult]:
        """See `ports/event_log.py`.

        Raises:
            ValueError: a run is in the batch twice, or has a letter from another run of the batch.
            InvalidValue: PostgreSQL can't hold one of the values, or (StoreRefused) one of its own rules refuses it;
                nothing of the batch was appended.
            StoreUnavailable: nothing is known about any part of the batch.
        """
        self._server.check_open()
        if not batch:
            return []
        batches.check(batch)
        results = await self._send(batch, lane)
        if len(results) < len(batch):
            results |= await self._classify([append for append in batch if append.run not in results])
        return [results[append.run] for append in batch]

    async def _send(self, batch: Sequence[Append], lane: int) -> dict[str, AppendResult]:
        """Send the batch until it is taken. Returns the results of runs that moved, and of those whose place in the log
        is occupied.
        """
        left, is_safe = batches.in_order(batch), False
        refused: dict[str, AppendResult] = {}
        refusal: Exception | None = None
        for _ in range(ATTEMPTS_MAX):
            if not left:
                return refused
            kind = batches.statement(left)
            values = batches.parameters(kind, left, self._server.settings.plain_json_bytes_max, safely=is_safe)
            try:
                rows = await self._execute(lane, _SQL[kind], values)
            except asyncpg.CheckViolationError as error:
                if error.constraint_name is not None:
                    raise _refused(error) from error
                refusal = error
                await self._make_partitions(left)
            except asyncpg.UniqueViolationError as error:
                refusal = error
                if error.constraint_name is None or not error.constraint_name.startswith("mailbox"):
                    refused |= await self._occupied(left)
                    left = [append for append in left if append.run not in refused]
            except asyncpg.IntegrityConstraintViolationError as error:
                raise _refused(error) from error
            except InvalidValue:
                if is_safe:
                    raise
                is_safe = True
            else:
                return refused | {left[n - 1].run: _moved(mail) for n, mail in rows}
        if isinstance(refusal, asyncpg.PostgresError):
            raise _refused(refusal) from refusal
        raise StoreUnavailable(f"the database refused {len(left)} runs {ATTEMPTS_MAX} times; they were not appended")

    async def _execute(self, lane: int, sql: str, values: batches.Parameters) -> list[asyncpg.Record]:
        return await self._lanes[lane % LANES].call(lambda connection: connection.fetch(sql, *values))

    async def _make_partitions(self, batch: Sequence[Append]) -> None:
        buckets = {append.create.bucket for append in batch if append.create is not None}
        await self._readers.call(lambda connection: make_partitions(connection, buckets))

    async def _occupied(self, left: Sequence[Append]) -> dict[str, AppendResult]:
        """Find the runs that have events past their heads, written by somebody else: they are in conflict, the rest of
        the batch is not.
        """
        rows = await self._readers.call(
            lambda connection: connection.fetch(
                _SQL["occupied"],
                [append.run for append in left],
                [append.expected for append in left],
                [len(append.events) for append in left],
            )
        )
        return {row["id"]: AppendResult(Outcome.CONFLICT) for row in rows}

    async def _classify(self, left: Sequence[Append]) -> dict[str, AppendResult]:
        rows = await self._readers.call(
            lambda connection: connection.fetch(_SQL["refused"], [append.run for append in left])
        )
        heads = {row["id"]: row for row in rows}
        return {append.run: _why(append, heads.get(append.run)) for append in left}


@lru_cache
def _moved(mail: int) -> AppendResult:
    """A result shared by all runs with the same number of letters: most have none, or few."""
    return AppendResult(Outcome.MOVED, mail)


def _refused(error: asyncpg.PostgresError) -> StoreRefused:
    return StoreRefused(f"the database refused: {error}")


def _why(append: Append, head: asyncpg.Record | None) -> AppendResult:
    if head is None:
        return AppendResult(Outcome.MISSING)
    mail: int = head["mail"]
    if append.create is not None:
        return AppendResult(Outcome.EXISTS, mail)
    if head["epoch"] != append.epoch:
        return AppendResult(Outcome.FENCED, mail)
    if head["sequence"] == append.expected and append.closes and mail != append.folded:
        return AppendResult(Outcome.MAIL_ARRIVED, mail)
    return AppendResult(Outcome.CONFLICT, mail)
