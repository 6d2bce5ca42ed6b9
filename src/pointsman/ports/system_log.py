"""The system log: streams without an owner (`agent/X`, `budget/X`, `recycling`). The expected sequence decides who
appends, and the loser reads again.

Each stream is stored with its folded state. Every append brings the state that it leads to, so readers need no replay
and old events can be deleted. Obligations, each with a case in the conformance suite:
- an append moves a stream from exactly the expected sequence, with its events and its state, or does nothing;
- sequences are dense from 1; of two appends with the same expected sequence one wins, and the other is told so;
- every later read sees what was acknowledged; after `StoreUnavailable` nothing is known: read the head again;
- `changes` never misses a change, however late it commits; it may show one twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.kernel.events import Event, Recorded
from pointsman.ports.event_log import NewEvent

EVENTS_KEPT = 1_000
"""Events of a stream that are kept, at least; older ones may be cut."""


class SystemHead(msgspec.Struct, frozen=True):
    """The head of a stream. `state`: what its events add up to, as JSON. `updated_at`: ms, the database's clock."""

    stream: str
    sequence: int
    state: bytes
    updated_at: int


def new_events(events: Sequence[Event], at: int) -> list[NewEvent]:
    """Build the events to append to a system stream; `at`: ms by the database's clock."""
    return [NewEvent(type(event).__name__, event.VERSION, at, msgspec.json.encode(event)) for event in events]


class SystemLog(Protocol):
    """The system log. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def append(self, stream: str, expected: int, events: Sequence[NewEvent], state: bytes) -> SystemHead:
        """Append to a stream and return its new head. `expected` 0 creates the stream.

        Raises:
            WrongExpectedSequence: somebody else appended first; read the head and decide again.
        """
        ...

    async def head(self, stream: str) -> SystemHead | None: ...

    async def heads(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[SystemHead]:
        """The heads whose stream name begins with `prefix`, in the order of names (by code point), from the one after
        `after` on.
        """
        ...

    async def changes(self, prefix: str, *, cursor: str | None = None) -> tuple[list[SystemHead], str]:
        """The heads that changed since `cursor` was given (all of them, without one), and the next cursor."""
        ...

    async def read(self, stream: str, *, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """The events of a stream with sequence > `after` that are still kept, in order."""
        ...
