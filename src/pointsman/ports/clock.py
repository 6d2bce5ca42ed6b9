"""Time, from two clocks that must not be mixed."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """An estimate of the store's clock, in ms since 1970. Events are stamped with it, and timers are due by it."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines and waits within this process."""
        ...
