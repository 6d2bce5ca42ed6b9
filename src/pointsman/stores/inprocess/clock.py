"""The clock of a single process: the wall clock, held so that it never goes back."""

from __future__ import annotations

import time
from typing import Final

SLOWED: Final = 0.5
"""How fast it goes while the wall clock is behind it."""


class SystemClock:
    """The operating system's clocks. Behind a wall clock that is set back it goes on, at half the speed, until that has
    caught up: if it stood still, so would every timer."""

    def __init__(self) -> None:
        self._latest = 0
        self._ahead_since: tuple[float, int] | None = None
        """When the wall clock was found to be behind, by the monotonic clock, and what was said then."""

    def now(self) -> int:
        wall = self.wall()
        if wall >= self._latest:
            self._ahead_since, self._latest = None, wall
            return wall
        at = self.monotonic()
        if self._ahead_since is None:
            self._ahead_since = at, self._latest
        since, latest = self._ahead_since
        self._latest = max(self._latest, latest + int((at - since) * 1000 * SLOWED))
        return self._latest

    def wall(self) -> int:
        """What the operating system says the time is, in ms."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
