"""Timers of driven runs: when to look at a run again. Durable timers are events; this only remembers which run
to wake.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from pointsman.ports.clock import Clock

LONGEST_WAIT_S = 0.5
"""The store's clock is an estimate that is corrected at each heartbeat, so no wait is trusted for longer."""


class Timers:
    """A service: `start`, `wake_at`, `stop`. Timers need not be cancelled: an unneeded wake-up does nothing."""

    def __init__(self, clock: Clock, on_due: Callable[[str], None]) -> None:
        self._clock = clock
        self._on_due = on_due
        self._heap: list[tuple[int, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="timers")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._heap.clear()

    def wake_at(self, due: int, run: str) -> None:
        """Call `on_due(run)` at `due` (ms, the store's clock) or soon after."""
        heapq.heappush(self._heap, (due, run))
        if self._heap[0] == (due, run):
            self._changed.set()

    async def _run(self) -> None:
        while True:
            now = self._clock.now()
            while self._heap and self._heap[0][0] <= now:
                self._on_due(heapq.heappop(self._heap)[1])
            wait = min((self._heap[0][0] - now) / 1000, LONGEST_WAIT_S) if self._heap else LONGEST_WAIT_S
            self._changed.clear()
            try:
                async with asyncio.timeout(max(wait, 0.001)):
                    await self._changed.wait()
            except TimeoutError:
                continue
