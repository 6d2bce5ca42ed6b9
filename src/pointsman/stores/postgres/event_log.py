"""The event log on PostgreSQL: see `ports/event_log.py` for what it promises. Appends are in `appending.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import (
    OPEN_STATUSES,
    Append,
    AppendResult,
    FeedEvent,
    Head,
    Resolution,
    RunFilter,
)
from pointsman.stores import cursors, payload
from pointsman.stores.postgres.appending import Appender
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.resolving import Resolver
from pointsman.stores.queries import load

FEED_WINDOW = 4_096
"""Transactions that the first query of a feed page spans; the next ones span more and more until the page is full."""

_SQL = load(__package__, "log")


class PostgresEventLog:
    """
    Args:
        readers: for short statements.
        planner: a link that plans statements anew each time, for those whose best plan depends on their values.
    """

    def __init__(self, appender: Appender, resolver: Resolver, readers: Pool, planner: Link) -> None:
        self._appender = appender
        self._resolver = resolver
        self._readers = readers
        self._planner = planner
        self._feed_floor: int | None = None

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        return await self._appender.append(batch, lane)

    async def resolve(self, append: Append) -> Resolution:
        return await self._resolver.resolve(append)

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        if bytes_max is not None:
            return (await self.read_many({run: after}, limit=limit, bytes_max=bytes_max))[run]
        rows = await self._readers.call(
            lambda connection: connection.fetch(_SQL["read"], run, max(after, 0), max(limit, 0))
        )
        return [_recorded(row) for row in rows]

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        runs = list(after)
        events: dict[str, list[Recorded]] = {run: [] for run in runs}
        asked = (runs, [max(sequence, 0) for sequence in after.values()], max(limit, 0))
        if bytes_max is None:
            rows = await self._readers.call(lambda connection: connection.fetch(_SQL["read_many"], *asked))
        else:
            within = max(bytes_max, 1)
            rows = await self._readers.call(lambda connection: connection.fetch(_SQL["read_within"], *asked, within))
        for row in rows:
            events[runs[row["n"] - 1]].append(_recorded(row))
        return events

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["heads"], list(runs)))
        return {row["id"]: Head(*row) for row in rows}

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        before = None if cursor is None else cursors.decode(cursor, tuple[int])[0]
        only_open = bool(where.status) and set(where.status) <= set(OPEN_STATUSES)
        limit = max(limit, 0)
        rows = await self._planner.call(
            lambda connection: connection.fetch(
                _SQL["list_runs"],
                list(where.status) or None,
                only_open,
                where.workflow,
                where.tenant,
                where.attributes or None,
                before,
                limit + 1,
            )
        )
        heads = [Head(*row[:-1]) for row in rows[:limit]]
        if len(rows) <= limit or not heads:
            return heads, None
        return heads, cursors.encode(rows[limit - 1]["number"])

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        """Events in the order (transaction, run's number, sequence), up to the oldest transaction still under way.

        Positions are transaction numbers: cursors become invalid when a dump is restored into another cluster.
        """
        if cursor is None:
            xid, number, sequence = await self._first_xid(), 0, 0
        else:
            xid, number, sequence = cursors.decode(cursor, tuple[int, int, int])
        return await self._planner.call(lambda connection: _feed(connection, xid, number, sequence, max(limit, 0)))

    async def feed_lag_ms(self) -> int:
        """How long the oldest writing transaction of the cluster has been holding back the feed."""
        lag: int = await self._readers.call(lambda connection: connection.fetchval(_SQL["feed_lag"]))
        return lag

    async def _first_xid(self) -> int:
        if self._feed_floor is None:
            self._feed_floor = await self._readers.call(lambda connection: connection.fetchval(_SQL["feed_floor"]))
        return self._feed_floor or 0


async def _feed(
    connection: asyncpg.Connection[asyncpg.Record], xid: int, number: int, sequence: int, limit: int
) -> tuple[list[FeedEvent], str]:
    """Read a page. Several statements may do so, because everything below the horizon is complete and never changes."""
    horizon: int = await connection.fetchval(_SQL["horizon"])
    events: list[FeedEvent] = []
    window = FEED_WINDOW
    while xid < horizon and len(events) < limit:
        end = min(xid + window, horizon)
        wanted = limit - len(events)
        rows = await connection.fetch(_SQL["feed"], xid, end, number, sequence, wanted)
        events += [FeedEvent(row["run"], _recorded(row)) for row in rows if row["run"] is not None]
        if len(rows) >= wanted:
            xid, number, sequence = rows[-1]["xid"], rows[-1]["number"], rows[-1]["sequence"]
        else:
            xid, number, sequence = end, 0, 0
            window *= 4
    return events, cursors.encode(xid, number, sequence)


def _recorded(row: asyncpg.Record) -> Recorded:
    body, damage = b"", ""
    try:
        body = payload.load(row["body"], row["packed"], row["codec"])
    except CorruptLog as error:
        damage = str(error)
    return Recorded(
        sequence=row["sequence"], at=row["at"], type=row["type"], version=row["version"], body=body,
        epoch=row["epoch"], checksum=row["checksum"], damage=damage,
    )  # fmt: skip
