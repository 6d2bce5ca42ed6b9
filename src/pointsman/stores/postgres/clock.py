"""The store's clock: this process's monotonic clock, and the database's offset from it, measured at each heartbeat."""

from __future__ import annotations

import time

NARROW_S = 0.002
"""Seconds. A measurement that takes no longer than this is as good as any."""


class PostgresClock:
    """The database's time. It never goes back within a process, whatever the measurements say. Safe to measure from
    another thread.
    """

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000
        self._width_s = float("inf")
        self._latest = 0

    def now(self) -> int:
        now = int(time.monotonic() * 1000 + self._offset_ms)
        if now < self._latest:
            return self._latest
        self._latest = now
        return now

    monotonic = staticmethod(time.monotonic)

    def measured(self, now_ms: int, sent: float, received: float) -> None:
        """Take in that the database's time was `now_ms` at some point between `sent` and `received` (monotonic clock).

        A slow answer is imprecise: it counts only once the last good one has aged.
        """
        width = received - sent
        if width <= max(NARROW_S, self._width_s):
            self._offset_ms = now_ms - (sent + received) * 500
            self._width_s = width
        else:
            self._width_s *= 1.5
