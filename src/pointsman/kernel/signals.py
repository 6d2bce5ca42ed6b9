"""The signals of a run: those that nobody has waited for yet, and the calls that wait for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any


class Signals:
    """First come, first served, for each name.

    Attributes:
        taken: how many were given from those kept.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._kept: dict[str, deque[bytes]] = {}
        self._listeners: dict[str, tuple[str, Any]] = {}

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(len(payload) for queue in self._kept.values() for payload in queue)

    def take(self, name: str) -> bytes | None:
        """The oldest kept signal of a name, which is kept no longer."""
        queue = self._kept.get(name)
        if not queue:
            return None
        self.taken += 1
        return queue.popleft()

    def keep(self, name: str, payload: bytes) -> None:
        self._kept.setdefault(name, deque()).append(payload)

    def kept(self) -> Iterator[tuple[str, bytes]]:
        """All that nobody has waited for, by name, and of each name the oldest first."""
        return ((name, payload) for name, queue in self._kept.items() for payload in queue)

    def listen(self, call: str, name: str, expect: Any) -> None:
        """The call waits for a signal of this name, to be read as the type `expect`."""
        self._listeners[call] = (name, expect)

    def forget(self, call: str) -> None:
        """The call waits no longer."""
        self._listeners.pop(call, None)

    def arrived(self, name: str, payload: bytes) -> tuple[str, Any] | None:
        """The call that has waited longest for this name, and the type that it expects; None: the signal is kept."""
        for call, (awaited, expect) in self._listeners.items():
            if awaited == name:
                del self._listeners[call]
                return call, expect
        self.keep(name, payload)
        return None
