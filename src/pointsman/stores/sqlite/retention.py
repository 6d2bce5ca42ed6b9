"""Retention on SQLite: see `ports/retention.py` for what it promises. Events go with their run."""

from __future__ import annotations

import json

from pointsman.ports.retention import BUCKET_MS, Bucket
from pointsman.stores.queries import load
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "retention")


class SqliteRetention:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.database.clock

    async def buckets(self) -> list[Bucket]:
        found = await self._session.call(lambda connection: connection.execute(_SQL["buckets"]).fetchall())
        return [Bucket(*row) for row in found]

    async def past(self, before: int) -> list[int]:
        found = await self._session.call(
            lambda connection: connection.execute(_SQL["past"], (before // BUCKET_MS,)).fetchall()
        )
        return [bucket for (bucket,) in found]

    async def delete(self, before: int, *, limit: int) -> int:
        return await self._session.call(lambda connection: _delete(connection, before, max(limit, 0)))

    async def move(self, bucket: int, *, limit: int) -> tuple[int, int]:
        current = self._clock.now() // BUCKET_MS

        def work(connection: Connection) -> tuple[int, int]:
            wanted = {"bucket": bucket, "to": current, "limit": max(limit, 0)}
            moved = connection.execute(_SQL["move"], wanted).rowcount if bucket != current else 0
            return moved, _left(connection, bucket)

        return await self._session.call(work)

    async def drop(self, bucket: int) -> bool:
        if bucket >= self._clock.now() // BUCKET_MS:
            raise ValueError(f"bucket {bucket}: runs still start in it")
        return await self._session.call(lambda connection: _left(connection, bucket)) == 0


def _delete(connection: Connection, before: int, limit: int) -> int:
    wanted = {"bucket": before // BUCKET_MS, "before": before, "limit": limit}
    gone = connection.execute(_SQL["deletable"], wanted).fetchall()
    numbers, runs = [(number,) for number, _ in gone], [(run,) for _, run in gone]
    connection.execute(_SQL["fence_parents"], (json.dumps([run for _, run in gone]),))
    connection.executemany(_SQL["delete_events"], numbers)
    connection.executemany(_SQL["delete_run"], numbers)
    connection.executemany(_SQL["delete_mail"], runs)
    connection.executemany(_SQL["delete_tasks"], runs)
    connection.executemany(_SQL["delete_states"], runs)
    connection.executemany(_SQL["delete_quarantined"], runs)
    if gone:
        connection.execute(_SQL["delete_reservations"])
    return len(gone)


def _left(connection: Connection, bucket: int) -> int:
    (left,) = connection.execute(_SQL["left"], (bucket,)).fetchone()
    return int(left)
