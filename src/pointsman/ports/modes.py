"""The operations on the cluster's mode: what a coordinator offers to its HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

AUTO = "auto"
"""In place of a mode: what is measured decides."""


class SignalView(msgspec.Struct, frozen=True):
    """A signal, with the highest value that a coordinator measured and the thresholds at which it changes the mode."""

    name: str
    value: float
    degraded: float
    emergency: float


class ModeChange(msgspec.Struct, frozen=True):
    """An event of the stream `mode`. `at`: ms, the database's clock."""

    sequence: int
    at: int
    type: str
    data: msgspec.Raw


class ModeView(msgspec.Struct, frozen=True):
    """The current mode.

    Attributes:
        mode: the mode in force: the pinned one if there is one, else the measured one.
        since: when it came into force, ms by the database's clock; None: it has never changed.
        cause, by: why it changed, and who changed it: a coordinator, or a person.
        changes: the latest changes, the oldest first.
    """

    mode: str
    measured: str
    pinned: str | None
    since: int | None
    cause: str
    by: str
    signals: Sequence[SignalView]
    changes: Sequence[ModeChange]


class Modes(Protocol):
    """The operations on the mode. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def get(self) -> ModeView: ...

    async def set(self, mode: str, *, by: str, reason: str = "") -> ModeView:
        """Pin a mode, or with AUTO let the measurements decide again. All coordinators know it within a second.

        Raises: InvalidValue: no such mode, or `by` is empty.
        """
        ...
