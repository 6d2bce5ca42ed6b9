"""What every event is: a frozen fact with a version, of one of three groups, and the row that keeps it."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

ABSENT = msgspec.Raw(b"")
"""No value; not written."""


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all events."""

    VERSION: ClassVar[int] = 1


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt, a call or a run failed. `kind` is stable; `message` is for people."""

    kind: str
    message: str = ""
    retryable: bool = True
    retry_after_ms: int | None = None


class Emission(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent said has happened: the event's name, and what is to be known of it."""

    event: str
    data: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def value(self) -> Any:
        """The data, as plain data."""
        return msgspec.json.decode(self.data)


class PlannedTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task of a plan. `call`: the id of its call. `after`: tasks that it needs. `if_failed`: "stop" or "skip"."""

    name: str
    call: str
    target: str
    after: tuple[str, ...] = ()
    if_failed: str = "stop"


class KeptSignal(msgspec.Struct, frozen=True):
    """A signal that nobody has waited for yet."""

    name: str
    payload: msgspec.Raw


class KeptState(msgspec.Struct, frozen=True):
    """The typed state of a run as its log has it: JSON, of that version of its schema."""

    version: int
    data: msgspec.Raw


class Cause(Event, frozen=True):
    """Delivered to the body."""


class Request(Event, frozen=True, omit_defaults=True):
    """Made by the body."""

    call: str


class Note(Event, frozen=True):
    """Not seen by the body."""


class Recorded(msgspec.Struct, frozen=True):
    """An event as its run's stream holds it. `at` is in milliseconds by the database's clock.

    `checksum`: see `checksum.py`. `damage`: why the store can't give its body, which is then empty.
    """

    sequence: int
    at: int
    type: str
    version: int
    body: bytes
    epoch: int = 0
    checksum: int = 0
    damage: str = ""
