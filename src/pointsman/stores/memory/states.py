"""Typed states of the memory store: see `ports/states.py` for what it promises. Appends write them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.ports.states import StateRow
from pointsman.stores.memory.session import Session


class MemoryStates:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def of(self, runs: Sequence[str]) -> dict[str, StateRow]:
        await self._session.enter()
        table = self._database.states
        found = {run: table[run] for run in runs if run in table}
        await asyncio.sleep(0)
        return found

    async def rewrite(self, run: str, epoch: int, sequence: int, state: StateRow) -> bool:
        await self._session.enter()
        row = self._database.runs.get(run)
        is_same = row is not None and row.epoch == epoch and len(row.events) == sequence
        if is_same:
            self._database.write_state(run, state)
        await asyncio.sleep(0)
        return is_same
