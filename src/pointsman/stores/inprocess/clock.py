"""The clock of a single process: the wall clock, held so that it never goes back."""

from __future__ import annotations

import time


class SystemClock:
    """The operating system's clocks. A wall clock that is set back stands still until it has caught up."""

    def __init__(self) -> None:
        self._latest = 0

    def now(self) -> int:
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest

    def monotonic(self) -> float:
        return time.monotonic()
