"""A run's recorded events, read for a replay: decoded, checked for holes, inputs rebuilt, grouped by cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.pieces import rebuild, split_body
from pointsman.kernel.upcast import read_event


class Entry(msgspec.Struct, frozen=True):
    """One recorded event; `data` is its full input, if it has one."""

    event: ev.Event
    at: int
    data: bytes


class Group(msgspec.Struct):
    """A cause, what the log has between it and the next, and its requests by type and call."""

    cause: Entry
    entries: list[Entry]
    requests: dict[tuple[type[ev.Event], str], ev.Event]
    is_last: bool = False


class History:
    """The events of one run from its first on.

    Raises:
        CorruptLog: the stream does not start with RunStarted at 1, or has a hole. UnknownEvent.
    """

    def __init__(self, run: str, recorded: list[ev.Recorded]) -> None:
        self._recorded = recorded
        self.warnings: list[str] = []
        """What the replay noticed and let pass."""
        for expected, row in enumerate(recorded, 1):
            if row.sequence != expected:
                raise CorruptLog(f"run {run}: event {expected} is missing (the log goes on with {row.sequence})")
        if not recorded or recorded[0].type != "RunStarted":
            raise CorruptLog(f"run {run}: the log does not begin with RunStarted")
        self.entries = [self._read(row) for row in recorded]
        outcomes = (ev.CallCompleted, ev.CallFailed, ev.CallSkipped, ev.HumanTaskAnswered, ev.ChildEnded)
        self._outcomes = {entry.event.call for entry in self.entries if isinstance(entry.event, outcomes)}
        self.terminal = next((e.event for e in self.entries if isinstance(e.event, ev.TERMINAL)), None)

    def _read(self, row: ev.Recorded) -> Entry:
        event = read_event(row)
        return Entry(event, row.at, self._input(event, row))

    def _input(self, event: ev.Event, row: ev.Recorded) -> bytes:
        if not isinstance(event, ev.RunStarted | ev.CallRequested | ev.ChildStarted):
            return b""
        if not event.pieces:
            return bytes(event.input)
        return rebuild(event.pieces, split_body(row.body)[1], row.sequence, lambda n: self._recorded[n - 1].body)

    def groups(self) -> Iterator[Group]:
        """One group for each cause, in order. The terminal event is in no group's requests."""
        group: Group | None = None
        for entry in self.entries:
            if isinstance(entry.event, ev.Cause):
                if group is not None:
                    yield group
                group = Group(entry, [], {})
            elif group is not None:
                group.entries.append(entry)
                if isinstance(entry.event, ev.Request) and not isinstance(entry.event, ev.TERMINAL):
                    group.requests[type(entry.event), entry.event.call] = entry.event
        if group is not None:
            group.is_last = True
            yield group

    def has_outcome(self, call: str) -> bool:
        return call in self._outcomes

    def input_of(self, event_type: type[Any], call: str) -> bytes:
        """The full input of the request of this type and call."""
        return next(e.data for e in self.entries if isinstance(e.event, event_type) and e.event.call == call)


def describe(event: ev.Event) -> str:
    """An event in a few words, for messages."""
    words = [type(event).__name__]
    for name in ("call", "target", "workflow", "name", "needs"):
        value = getattr(event, name, None)
        if value:
            words.append(f"{name}={value!r}")
    return " ".join(words)
