"""A sliding window of counts, in slots of one second: what happened lately, at a cost that does not grow with it."""

from __future__ import annotations

from collections import deque


class Window:
    """Sums of the last `seconds`, the current one included, of `width` numbers that mean what the caller says.

    Seconds are whole and given by the caller; one that goes back is counted as the latest that was seen.
    """

    def __init__(self, seconds: int, width: int) -> None:
        if seconds < 1 or width < 1:
            raise ValueError(f"Window({seconds}, {width}): at least one second and one number")
        self.seconds = seconds
        self._slots: deque[tuple[int, list[int]]] = deque()
        self._sums = [0] * width

    def add(self, second: int, *counts: int) -> None:
        """Count them in this second."""
        if not self._slots or self._slots[-1][0] < second:
            self._forget(second)
            self._slots.append((second, [0] * len(self._sums)))
        slot = self._slots[-1][1]
        for place, count in enumerate(counts):
            slot[place] += count
            self._sums[place] += count

    def sums(self, second: int) -> tuple[int, ...]:
        """What the seconds from `second - seconds + 1` to `second` add up to."""
        self._forget(second)
        return tuple(self._sums)

    def clear(self) -> None:
        """Start afresh."""
        self._slots.clear()
        self._sums = [0] * len(self._sums)

    def _forget(self, second: int) -> None:
        while self._slots and self._slots[0][0] <= second - self.seconds:
            for place, count in enumerate(self._slots.popleft()[1]):
                self._sums[place] -= count
