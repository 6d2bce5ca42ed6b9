"""The board of an in-process store: see `ports/board.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pointsman.stores.inprocess.session import Session


class InProcessBoard:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        await self._session.enter()
        board = self._database.board
        if self._database.is_living(incarnation):
            board[incarnation] = bytes(body)
        others = {row.number: board[row.number] for row in self._database.living() if row.number in board}
        others.pop(incarnation, None)
        await asyncio.sleep(0)
        return others
