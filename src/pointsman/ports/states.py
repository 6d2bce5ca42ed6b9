"""The typed state of runs (`run.state`), as of their last append, for readers by API or SQL.

It is written by the append that holds the event (`Append.state`) and deleted with the run. A coordinator never drives a
run by it: the log is the truth, and this table can be rebuilt from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.kernel.events import Recorded
from pointsman.kernel.typed_state import state_at


class StateRow(msgspec.Struct, frozen=True):
    """
    Attributes:
        version: of the workflow's state schema, from 1. 0: no state stands, and the row is deleted.
        value: JSON, byte for byte.
        sequence: of the event that says so.
    """

    version: int
    value: bytes
    sequence: int


NO_STATE = StateRow(0, b"null", 0)


def row_at(recorded: Sequence[Recorded]) -> StateRow:
    """What stands at the end of these events, a run's last generation. Raises CorruptLog, UnknownEvent."""
    found = state_at(recorded)
    return NO_STATE if found is None else StateRow(found[0].version, bytes(found[0].data), found[1])


class States(Protocol):
    """The table of typed states. Both methods raise `StoreUnavailable` if the store can't be reached."""

    async def of(self, runs: Sequence[str]) -> dict[str, StateRow]:
        """The states of those of `runs` that have one."""
        ...

    async def rewrite(self, run: str, epoch: int, sequence: int, state: StateRow) -> bool:
        """Replace the state, for a repair. Returns False if the run's head is not (or no longer) at this epoch and
        sequence.
        """
        ...
