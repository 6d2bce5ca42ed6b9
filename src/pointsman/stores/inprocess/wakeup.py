"""Wake-up in one process: each store has a bounded pile of hints; a new one goes onto all the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

PENDING_MAX = 10_000
"""Hints kept for a store that does not fetch them; more are lost, which hints may be."""


class Inbound:
    """Hints that wait for one store, each run once, in the order in which they came."""

    def __init__(self) -> None:
        self._runs: dict[str, None] = {}
        self._arrived = asyncio.Event()

    def put(self, runs: Sequence[str]) -> None:
        for run in runs:
            if len(self._runs) < PENDING_MAX:
                self._runs[run] = None
        if self._runs:
            self._arrived.set()

    async def take(self) -> list[str]:
        while not self._runs:
            self._arrived.clear()
            await self._arrived.wait()
        runs = list(self._runs)
        self._runs.clear()
        return runs


class InProcessWakeup:
    """`Wakeup` between the stores of one database. `everyone` gives the piles of those that are open."""

    def __init__(self, own: Inbound, everyone: Callable[[], Sequence[Inbound]]) -> None:
        self._own = own
        self._everyone = everyone

    def hint(self, runs: Sequence[str]) -> None:
        for inbound in self._everyone():
            if inbound is not self._own:
                inbound.put(runs)

    async def next_hints(self) -> list[str]:
        await asyncio.sleep(0)
        return await self._own.take()
