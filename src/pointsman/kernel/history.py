"""A run's recorded events, read for a replay: decoded, checked for holes, inputs rebuilt, grouped by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.copies import Copies, InputEvent
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.pieces import rebuild, split_body
from pointsman.kernel.redriving import Fact, facts_of, in_force, misplaced
from pointsman.kernel.values import digest

_OUTCOMES = (
    ev.CallCompleted, ev.CallFailed, ev.CallSkipped, ev.HumanTaskAnswered, ev.HumanTaskExpired, ev.ChildEnded
)  # fmt: skip
"""The events that end a call."""


class Entry(msgspec.Struct, frozen=True):
    """One recorded event.

    `data` is its full input, if a replay needs it. If a call is over, its input in pieces is compared by the digest and
    never rebuilt (10,000 inputs of a long conversation would be 15 GB). `is_again`: see `redriving.py`.
    """

    event: ev.Event
    at: int
    data: bytes
    sequence: int
    is_again: bool = False


class Group(msgspec.Struct):
    """A cause, the events between it and the next one, and its requests by type and call.

    `goes_on`: a redrive comes between it and the next group; the requests that the body now makes in answer to either
    are among those of both. `is_last`: only such groups follow.
    """

    cause: Entry
    entries: list[Entry]
    requests: dict[tuple[type[ev.Event], str], ev.Event]
    goes_on: bool = False
    is_last: bool = False


class History:
    """The events of one generation of a run, from its first on. Events of earlier generations may be given, but are not
    read.

    Attributes:
        sequence: the sequence of the last event.
        redrives: how often the run was redriven.
        entries: the events that count, in the order in which they count.

    Raises:
        CorruptLog: the stream does not start with RunStarted at 1, or with RunRestarted, or has a hole. UnknownEvent.
    """

    def __init__(self, run: str, recorded: list[ev.Recorded]) -> None:
        self.warnings: list[str] = []
        """What the replay noticed and tolerated."""
        self._recorded = _last_generation(run, recorded)
        self.base = self._recorded[0].sequence
        self.sequence = self._recorded[-1].sequence
        recorded_facts = facts_of(self._recorded)
        self._events = [fact.event for fact in recorded_facts]
        facts = in_force(recorded_facts)
        stray = misplaced(facts)
        self._outcomes = {f.event.call for f in facts if isinstance(f.event, _OUTCOMES) and f.sequence not in stray}
        self.redrives = max((f.event.number for f in facts if isinstance(f.event, ev.RunRedriven)), default=0)
        first = facts[0].event
        if isinstance(first, ev.RunRestarted):
            self.redrives = max(self.redrives, first.redrives)
        self.entries = [self._entry(fact) for fact in facts]
        self.terminal = next((e.event for e in self.entries if isinstance(e.event, ev.TERMINAL)), None)

    def _entry(self, fact: Fact) -> Entry:
        event = fact.event
        if not isinstance(event, InputEvent):
            return Entry(event, fact.at, b"", fact.sequence, fact.is_again)
        is_over = isinstance(event, ev.ChildStarted | ev.StateSet) or (
            isinstance(event, ev.CallRequested) and self.has_outcome(event.call)
        )
        data = b"" if event.pieces and is_over else self._input_at(fact.sequence)
        return Entry(event, fact.at, data, fact.sequence)

    def copies(self) -> Copies | None:
        """The memory from which new inputs may be copied."""
        copies = Copies()
        for row, event in zip(self._recorded, self._events, strict=True):
            copies.note(row.sequence, event, row.body)
        copies.load(self._input_at)
        return copies if copies.size else None

    def _input_at(self, sequence: int) -> bytes:
        event = self._events[sequence - self.base]
        assert isinstance(event, InputEvent)
        return whole_input(event, self._recorded[sequence - self.base], self._body_of)

    def _body_of(self, sequence: int) -> bytes:
        if sequence < self.base:
            raise CorruptLog(f"an input copies from event {sequence}, which is of an earlier generation")
        return self._recorded[sequence - self.base].body

    def groups(self) -> Iterator[Group]:
        """One group for each cause, in order. The terminal event is not among the requests of any group."""
        groups: list[Group] = []
        for entry in self.entries:
            if isinstance(entry.event, ev.Cause):
                group = Group(entry, [], {})
                if entry.is_again:
                    groups[-1].goes_on = True
                    group.requests = groups[-1].requests
                groups.append(group)
                continue
            groups[-1].entries.append(entry)
            if isinstance(entry.event, ev.Request) and not isinstance(entry.event, ev.TERMINAL):
                groups[-1].requests[type(entry.event), entry.event.call] = entry.event
        for n in range(len(groups) - 1, -1, -1):
            groups[n].is_last = n == len(groups) - 1 or (groups[n].goes_on and groups[n + 1].is_last)
        return iter(groups)

    def has_outcome(self, call: str) -> bool:
        return call in self._outcomes

    def input_of(self, event_type: type[Any], call: str) -> bytes:
        """The full input of the last request of this type and call, which is the one that counts."""
        places = range(len(self._events) - 1, -1, -1)
        found = (n for n in places if isinstance(self._events[n], event_type) and self._events[n].call == call)  # type: ignore[attr-defined]
        return self._input_at(self.base + next(found))


def _last_generation(run: str, recorded: list[ev.Recorded]) -> list[ev.Recorded]:
    """The events of the last generation. Raises CorruptLog."""
    first = recorded[0].sequence if recorded else 1
    for expected, row in enumerate(recorded, first):
        if row.sequence != expected:
            raise CorruptLog(f"run {run}: event {expected} is missing (the log goes on with {row.sequence})")
    begins = next((n for n in range(len(recorded) - 1, -1, -1) if recorded[n].type == "RunRestarted"), 0)
    if not recorded or (recorded[begins].type != "RunRestarted" and (recorded[0].type != "RunStarted" or first != 1)):
        raise CorruptLog(f"run {run}: the log does not begin with RunStarted, nor a generation of it with RunRestarted")
    return recorded[begins:]


def whole_input(
    event: InputEvent, row: ev.Recorded, body_of: Callable[[int], bytes], known: Mapping[int, bytes] | None = None
) -> bytes:
    """The input of an event, rebuilt if it is in pieces; for the arguments, see `pieces.rebuild`.

    Raises:
        CorruptLog: the pieces do not fit the log, or the result differs from what was recorded.
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
    for name in ("call", "target", "workflow", "name", "event", "needs"):
        value = getattr(event, name, None)
        if value:
            words.append(f"{name}={value!r}")
    if isinstance(event, ev.RunFailed):
        words.append(f"({event.failure.kind}: {event.failure.message[:200]})")
    return " ".join(words)
