"""Raise traffic slowly after an agent was away, by what the agent is seen to manage, never all at once.

For each attempt that succeeds one more is let in at a time; after a failure, half as many. If load simply doubled with
time, it would meet an agent at its limit together with everything that has piled up, and overwhelm it again: its queue
would grow beyond its timeout, and then all its work would be in vain.
"""

from __future__ import annotations

SLOWER = 2.0
"""An attempt that takes this many times what the first ones took was in a queue: no more at a time than now."""


class Ramp:
    """Attributes: room: attempts at the same time. under_way: of those that the ramp let in."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.under_way = 0
        self._first = room
        self._seen = 0
        self._seconds = 0.0

    @property
    def has_room(self) -> bool:
        return self.under_way < self.room

    def ended(self, is_well: bool, seconds: float) -> None:
        """The outcome of one is known."""
        if not is_well:
            self.room = max(self.room // 2, 1)
            return
        if self._seen < self._first:
            self._seen += 1
            self._seconds += seconds
        if seconds <= SLOWER * self._seconds / self._seen:
            self.room += 1
