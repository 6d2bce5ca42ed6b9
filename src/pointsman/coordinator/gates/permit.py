"""A permit: one attempt may be made. The only object that an attempt of an agent without limits costs here."""

from __future__ import annotations

from typing import Protocol

import msgspec

from pointsman.coordinator.gates.breaker import BreakerSide
from pointsman.coordinator.gates.ramp import Ramp


class PermitGate(Protocol):
    """What a permit needs of the gate that gave it."""

    breaker: BreakerSide

    def look_at(self, kind: str | None, seconds: float) -> None:
        """A counted attempt failed, or was slow."""
        ...

    def ended(self, permit: Permit, kind: str | None, seconds: float) -> None:
        """The outcome of a special one is known."""
        ...

    def left(self, permit: Permit, *, unused: bool) -> None:
        """The slot of a special one is free."""
        ...


class Permit(msgspec.Struct, eq=False):
    """See the module. `ended` once the outcome is known and `release` once it is really over; or `give_back` alone.

    Attributes:
        term: of the gate's breaker, when it was given.
        is_special: it is a probe, has a ramp, or holds a slot.
        probe: the id of the probe that it is, through a half-open breaker.
        ramp: what let it in, while traffic is raised slowly.
    """

    _gate: PermitGate
    term: int
    is_special: bool = False
    probe: str | None = None
    ramp: Ramp | None = None
    _is_counted: bool = False
    _is_over: bool = False

    def ended(self, kind: str | None, seconds: float) -> None:
        """The outcome is known (None: completed, else the kind of failure), after that many seconds. An attempt that
        timed out may still be running: its slot is not free. Twice is once."""
        if self._is_counted:
            return
        self._is_counted = True
        breaker = self._gate.breaker
        if breaker.term == self.term:
            breaker.calls += 1
            if kind is not None or seconds >= breaker.slow_after:
                self._gate.look_at(kind, seconds)
        if self.is_special:
            self._gate.ended(self, kind, seconds)

    def release(self) -> None:
        """It is really over: its slot is free. Without `ended` before it, the attempt was abandoned, and tells nothing.
        Twice is once."""
        if not self._is_over:
            self._is_over = True
            if self.is_special:
                self._gate.left(self, unused=False)

    def give_back(self) -> None:
        """No attempt was made: nothing is counted."""
        if not self._is_over:
            self._is_over = self._is_counted = True
            if self.is_special:
                self._gate.left(self, unused=True)
