"""The board on Redis: see `ports/board.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.stores.redis.session import Blobs, Session


class RedisBoard:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        blobs = Blobs()
        found = await self._session.call("board.publish", blobs, number=str(incarnation), body=blobs.add(body))
        return {int(number): said for number, said in found}
