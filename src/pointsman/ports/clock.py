"""Time, from two clocks that must not be mixed up."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    def now(self) -> int:
        """The estimate of the store's clock, in ms since 1970: what events carry and timers are due by."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines and waits of this process alone."""
        ...
