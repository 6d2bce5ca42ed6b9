"""The calls that wait for one agent, in the order in which they are let in."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count, islice
from typing import Protocol

from pointsman.coordinator.gates.permit import Permit
from pointsman.kernel.events import Failure


class Waiter(Protocol):
    """One call that wants an attempt.

    Attributes:
        priority: larger is sooner.
        is_continuing: its run has completed calls before. Completions come before starts: work that is half done holds
            memory, locks and people's patience.
    """

    priority: int
    is_continuing: bool

    @property
    def workflow(self) -> str:
        """Of its run."""
        ...

    def admitted(self, permit: Permit) -> None:
        """Called in the event loop, later than `enter`, once."""
        ...

    def obstructed(self, failure: Failure) -> None:
        """Called while it waits, in the event loop: the agent could take it soon when it came, and now it can't."""
        ...


class _Entry:
    __slots__ = ("has_left", "since", "waiter")

    def __init__(self, waiter: Waiter, since: int) -> None:
        self.waiter = waiter
        self.since = since
        self.has_left = False


class WaitQueue:
    """Orders waiters by priority, then continuing runs before starting ones, then by arrival. A waiter is in it at most
    once.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, bool, int, _Entry]] = []
        self._entries: dict[int, _Entry] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def oldest(self) -> int:
        """Since when the one waits who came first (ms); 0 when nobody does."""
        return next(iter(self._entries.values())).since if self._entries else 0

    def push(self, waiter: Waiter, now: int) -> None:
        if id(waiter) in self._entries:
            return
        entry = self._entries[id(waiter)] = _Entry(waiter, now)
        heapq.heappush(self._heap, (-waiter.priority, not waiter.is_continuing, next(self._numbers), entry))

    def first(self, count: int) -> Iterator[Waiter]:
        """Those who came first, so many at most."""
        return (entry.waiter for entry in islice(self._entries.values(), count))

    def waiters(self) -> list[Waiter]:
        """Everybody, by arrival."""
        return [entry.waiter for entry in self._entries.values()]

    def pop(self) -> Waiter:
        """Remove and return the next waiter. Raises IndexError if nobody waits."""
        while True:
            entry = heapq.heappop(self._heap)[3]
            if not entry.has_left:
                del self._entries[id(entry.waiter)]
                return entry.waiter

    def remove(self, waiter: Waiter) -> None:
        """Remove a waiter. Does nothing if it does not wait."""
        entry = self._entries.pop(id(waiter), None)
        if entry is None:
            return
        entry.has_left = True
        if len(self._heap) > 2 * len(self._entries) + 16:  # those who left stay in the heap until they are many
            self._heap = [item for item in self._heap if not item[3].has_left]
            heapq.heapify(self._heap)
