"""Retention of the memory store: see `ports/retention.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.ports.retention import BUCKET_MS, Bucket
from pointsman.stores.memory.database import HeadRow
from pointsman.stores.memory.session import Session


class MemoryRetention:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def buckets(self) -> list[Bucket]:
        await self._session.enter()
        found = [self._describe(number) for number in sorted(self._database.buckets)]
        await asyncio.sleep(0)
        return found

    async def past(self, before: int) -> list[int]:
        await self._session.enter()
        found = sorted(bucket for bucket in self._database.buckets if bucket < before // BUCKET_MS)
        await asyncio.sleep(0)
        return found

    async def delete(self, before: int, *, limit: int) -> int:
        await self._session.enter()
        gone = self._deletable(before)[: max(limit, 0)]
        if gone:
            self._fence_parents(gone)
            self._database.erase(set(gone))
        await asyncio.sleep(0)
        return len(gone)

    async def move(self, bucket: int, *, limit: int) -> tuple[int, int]:
        await self._session.enter()
        current = self._current()
        rows = self._in(bucket)
        moved = rows[: max(limit, 0)] if bucket != current else []
        for row in moved:
            row.bucket = current
            self._database.buckets.add(current)
        await asyncio.sleep(0)
        return len(moved), len(rows) - len(moved)

    async def drop(self, bucket: int) -> bool:
        await self._session.enter()
        if bucket >= self._current():
            raise ValueError(f"bucket {bucket}: runs still start in it")
        is_empty = not self._in(bucket)
        if is_empty:
            self._database.buckets.discard(bucket)
        await asyncio.sleep(0)
        return is_empty

    def _fence_parents(self, gone: Sequence[str]) -> None:
        """A redrive that was decided while its child was there is refused."""
        runs = self._database.runs
        for parent in {runs[run].new.parent for run in gone} & runs.keys():
            if parent is not None:
                runs[parent].epoch += 1

    # -- rules -----------------------------------------------------------------------------------------------

    def _deletable(self, before: int) -> list[str]:
        runs = self._database.runs
        parents = {row.new.parent for row in runs.values()}
        return [
            row.id
            for row in runs.values()
            if self._is_over(row, before) and row.id not in parents and self._parent_is_over(row, before)
        ]

    def _is_over(self, row: HeadRow, before: int) -> bool:
        return row.ended_at is not None and row.ended_at < before and row.bucket <= before // BUCKET_MS

    def _parent_is_over(self, row: HeadRow, before: int) -> bool:
        parent = self._database.runs.get(row.new.parent) if row.new.parent is not None else None
        return parent is None or (parent.ended_at is not None and parent.ended_at < before)

    def _current(self) -> int:
        return self._database.clock.now() // BUCKET_MS

    def _in(self, bucket: int) -> list[HeadRow]:
        return [row for row in self._database.runs.values() if row.bucket == bucket]

    def _describe(self, number: int) -> Bucket:
        rows = self._in(number)
        opened = [row.created_at for row in rows if row.ended_at is None]
        size = sum(len(event.body) for row in rows for event in row.events)
        return Bucket(number, len(rows), len(opened), min(opened, default=None), size)
