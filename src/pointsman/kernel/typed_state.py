"""`run.state`: what a run says of itself in a declared form, for others to see and to check.

It is changed by `run.set` alone, which is an event. What the log has is read by the code that drives the run now: an
older version through the schema's upcasters. What does not fit then is `InvalidState` and holds that one run back; a
version that this code does not know is `StateFromFuture` and waits for code that does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import InvalidState, InvalidValue, PointsmanError, StateChangedInPlace
from pointsman.kernel.history import History, whole_input
from pointsman.kernel.program import StateSchema
from pointsman.kernel.redriving import facts_of, in_force
from pointsman.kernel.values import digest

NOT_GIVEN: Any = object()
"""Stands for the value where `run.set` was given fields alone."""
SHOWN_BYTES_MAX = 1_000
"""How much of a value that does not fit its message shows."""


class TypedState:
    """The state of one run as its body sees it. There is none where the workflow declares none.

    Attributes:
        kept: what stands; None before the first `set`.
    """

    __slots__ = ("_as_given", "_given", "_schema", "kept")

    def __init__(self, schema: StateSchema) -> None:
        self.kept: ev.KeptState | None = None
        self._schema = schema
        self._given: Any = None
        self._as_given = b""

    @property
    def version(self) -> int:
        """The version that this code sets."""
        return self._schema.version

    def value(self) -> Any:
        """What stands, as today's schema has it; None before the first `set`. The same object until the next one."""
        if self.kept is not None and not self._as_given:
            self._given = self._schema.decode(bytes(self.kept.data), self.kept.version)
            self._as_given = self._schema.dump(self._given)
        return self._given

    def encoded(self, value: Any, changes: Mapping[str, Any]) -> bytes:
        """JSON of what is to stand: `value`, or what stands with these fields changed.

        Raises:
            InvalidState, InvalidValue: it does not fit the schema, or no store could hold it.
            StateChangedInPlace: fields are to be changed of what was written into already.
        """
        if value is not NOT_GIVEN:
            if changes:
                raise InvalidValue("run.set takes a value or fields, not both")
            return self._schema.encode(value)
        if not changes:
            raise InvalidValue("run.set(value), or run.set(field=..., ...): nothing was given")
        self.check_unchanged()
        return self._schema.changed(self.value(), changes)

    def take(self, kept: ev.KeptState) -> None:
        """From now on this stands."""
        self.kept, self._given, self._as_given = kept, None, b""

    def read(self, kept: ev.KeptState, where: str) -> None:
        """Take over what the log has, once it is certain that this code can read it. `where` it stands, for people.

        Raises:
            InvalidState, StateFromFuture.
        """
        self.take(kept)
        try:
            self.value()
        except InvalidState as error:
            shown = bytes(kept.data)[:SHOWN_BYTES_MAX].decode("utf-8", "replace")
            raise InvalidState(
                f"{where}, version {kept.version} of the state, does not fit version {self.version}: {error}. It is "
                f"{shown}. Deploy code whose schema or upcaster (state_upcasters=) takes it; then release the run"
            ) from error

    def check_unchanged(self) -> None:
        """Raises StateChangedInPlace: somebody wrote into the object that `run.state` gave."""
        if self._as_given and self._schema.dump(self._given) != self._as_given:
            raise StateChangedInPlace

    def stands(self, recorded: ev.StateSet, history: History, value: Any, changes: Mapping[str, Any]) -> None:
        """In replay: what was recorded stands, whatever the code would set now. Another value than that is noted.

        Raises:
            InvalidState, StateFromFuture: this code can't read what was recorded.
        """
        try:
            data = self.encoded(value, changes)
        except PointsmanError as error:
            data, said = b"", str(error)
        else:
            said = "the code now sets another value"
        same = data if data and recorded.pieces and digest(data) == recorded.digest else b""
        before = same or history.input_of(ev.StateSet, recorded.call)
        self.read(ev.KeptState(recorded.state_version, msgspec.Raw(before)), f"what {recorded.call} set")
        if before != data and (not data or self._schema.decode(data, self.version) != self.value()):
            history.warnings.append(f"{recorded.call}: {said}; the recorded state stands")


def state_at(recorded: Sequence[ev.Recorded]) -> tuple[ev.KeptState, int] | None:
    """What stands at the end of these events, which are a run's last generation, and the sequence of the event that
    says so. None: none was set.

    Raises:
        CorruptLog, UnknownEvent.
    """
    bodies = {row.sequence: row.body for row in recorded}
    rows = {row.sequence: row for row in recorded}
    for fact in reversed(in_force(facts_of(recorded))):
        event = fact.event
        if isinstance(event, ev.StateSet):
            data = whole_input(event, rows[fact.sequence], bodies.__getitem__)
            return ev.KeptState(event.state_version, msgspec.Raw(data)), fact.sequence
        if isinstance(event, ev.RunRestarted) and event.state is not None:
            return event.state, fact.sequence
    return None
