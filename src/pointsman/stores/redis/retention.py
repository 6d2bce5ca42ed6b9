"""Retention on Redis: see `ports/retention.py` for what it promises. Events go with their run."""

from __future__ import annotations

from typing import Final

from pointsman.ports.retention import BUCKET_MS, Bucket
from pointsman.stores.redis.session import Session

PAGE: Final = 1_000
"""Runs that are counted in one step: the server does nothing else meanwhile."""


class RedisRetention:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def buckets(self) -> list[Bucket]:
        return [await self._count(number) for number in await self._numbers()]

    async def past(self, before: int) -> list[int]:
        return [number for number in await self._numbers() if number < before // BUCKET_MS]

    async def delete(self, before: int, *, limit: int) -> int:
        return int(await self._session.call("retention.delete", before=before, limit=max(limit, 0)))

    async def move(self, bucket: int, *, limit: int) -> tuple[int, int]:
        moved, left = await self._session.call(
            "retention.move", bucket=str(bucket), bucket_ms=BUCKET_MS, limit=max(limit, 0)
        )
        return int(moved), int(left)

    async def drop(self, bucket: int) -> bool:
        answer: bytes = await self._session.call("retention.drop", bucket=str(bucket), bucket_ms=BUCKET_MS)
        if answer == b"current":
            raise ValueError(f"bucket {bucket}: runs still start in it")
        return answer == b"dropped"

    async def _numbers(self) -> list[int]:
        return sorted(map(int, await self._session.command("SMEMBERS", f"{self._session.prefix}buckets")))

    async def _count(self, number: int) -> Bucket:
        members = list(await self._session.command("SMEMBERS", f"{self._session.prefix}bucket:{number}"))
        runs, opened, size, oldest = 0, 0, 0, list[int]()
        for first in range(0, len(members), PAGE):
            page = [run.decode() for run in members[first : first + PAGE]]
            found, still_open, since, held = await self._session.call("retention.count", runs=page)
            runs, opened, size = runs + int(found), opened + int(still_open), size + int(held)
            oldest += [int(since)] if since else []
        return Bucket(number, runs, opened, min(oldest, default=None), size)
