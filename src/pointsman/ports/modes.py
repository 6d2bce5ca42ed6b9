"""The verbs on the cluster's mode: what a coordinator offers to its HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

AUTO = "auto"
"""In place of a mode: what is measured decides."""


class SignalView(msgspec.Struct, frozen=True):
    """A signal, as the coordinator measured it that has the most of it, and where it changes the mode."""

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
    """Where the mode stands.

    Attributes:
        mode: the one in force: the pinned one, else the measured one.
        since: ms by the database's clock, when it came into force; None: it was never another.
        cause, by: why, and by whom: a coordinator, or a person.
        changes: the latest ones, the oldest first.
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
    """Every method raises `StoreUnavailable` when the store can't be reached."""

    async def get(self) -> ModeView: ...

    async def set(self, mode: str, *, by: str, reason: str = "") -> ModeView:
        """Pin a mode, or with AUTO let what is measured decide again. All coordinators see it within a second.

        Raises: InvalidValue: no such mode, or nobody is named.
        """
        ...
