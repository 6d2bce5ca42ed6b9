"""A run's recorded events, read for a replay: decoded, checked for holes, inputs rebuilt, grouped by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.copies import Copies
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.pieces import rebuild, split_body
from pointsman.kernel.upcast import read_event
from pointsman.kernel.values import digest

InputEvent = ev.RunStarted | ev.CallRequested | ev.ChildStarted


class Entry(msgspec.Struct, frozen=True):
    """One recorded event; `data` is its full input, if it has one that a replay needs: an input in pieces of a call
    that is over is compared by its digest, and never rebuilt (10,000 inputs of a long conversation would be 15 GB)."""

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
        events = [read_event(row) for row in recorded]
        outcomes = (ev.CallCompleted, ev.CallFailed, ev.CallSkipped, ev.HumanTaskAnswered, ev.ChildEnded)
        self._outcomes = {event.call for event in events if isinstance(event, outcomes)}
        self.entries = [self._entry(event, row) for event, row in zip(events, recorded, strict=True)]
        self.terminal = next((e.event for e in self.entries if isinstance(e.event, ev.TERMINAL)), None)

    def _entry(self, event: ev.Event, row: ev.Recorded) -> Entry:
        if not isinstance(event, ev.RunStarted | ev.CallRequested | ev.ChildStarted):
            return Entry(event, row.at, b"")
        is_over = isinstance(event, ev.ChildStarted) or (
            isinstance(event, ev.CallRequested) and self.has_outcome(event.call)
        )
        return Entry(event, row.at, b"" if event.pieces and is_over else self._input(event, row))

    def _input(self, event: InputEvent, row: ev.Recorded) -> bytes:
        return whole_input(event, row, lambda n: self._recorded[n - 1].body)

    def remember(self, copies: Copies) -> None:
        """Fill the memory of what new inputs may be copied from."""
        for entry, row in zip(self.entries, self._recorded, strict=True):
            copies.note(row.sequence, entry.event, row.body, entry.data)
        copies.load(self._input_at)

    def _input_at(self, sequence: int) -> bytes:
        event = self.entries[sequence - 1].event
        assert isinstance(event, InputEvent)
        return self._input(event, self._recorded[sequence - 1])

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
        places = enumerate(self.entries, 1)
        return self._input_at(next(n for n, e in places if isinstance(e.event, event_type) and e.event.call == call))


def whole_input(
    event: InputEvent, row: ev.Recorded, body_of: Callable[[int], bytes], known: Mapping[int, bytes] | None = None
) -> bytes:
    """The input of an event, rebuilt where it stands in pieces; for the arguments, see `pieces.rebuild`.

    Raises:
        CorruptLog: the pieces do not fit the log, or give other bytes than were recorded.
    """
    if not event.pieces:
        return bytes(event.input)
    data = rebuild(event.pieces, split_body(row.body)[1], row.sequence, body_of, known)
    if digest(data) != event.digest:
        raise CorruptLog(f"event {row.sequence}: its pieces give another input than was recorded (by its digest)")
    return data


def describe(event: ev.Event) -> str:
    """An event in a few words, for messages."""
    words = [type(event).__name__]
    for name in ("call", "target", "workflow", "name", "needs"):
        value = getattr(event, name, None)
        if value:
            words.append(f"{name}={value!r}")
    return " ".join(words)
