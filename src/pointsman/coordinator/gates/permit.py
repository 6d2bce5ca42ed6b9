"""A permit: the right to make one attempt. All attempts of an agent that nothing limits share one permit."""

from __future__ import annotations

from typing import Protocol

import msgspec

from pointsman.coordinator.gates.breaker import LocalBreaker
from pointsman.coordinator.gates.counts import RetryBudget
from pointsman.coordinator.gates.ramp import Ramp


class PermitGate(Protocol):
    """What a permit needs of the gate that gave it."""

    breaker: LocalBreaker
    retries: RetryBudget

    def count_trouble(self, kind: str | None, seconds: float) -> None:
        """A counted attempt failed, or was slow."""
        ...

    def ended(self, permit: SpecialPermit, kind: str | None, seconds: float) -> None:
        """The outcome of a special one is known."""
        ...

    def left(self, permit: SpecialPermit, *, unused: bool) -> None:
        """The slot of a special one is free."""
        ...


class Permit(msgspec.Struct, eq=False):
    """The right to make one attempt.

    Call `ended` once when the outcome is known (never, if the attempt was abandoned), and `release` once when the
    attempt is really over; or call `give_back` alone.

    Attributes:
        term: of the gate's breaker, when it was given.
    """

    _gate: PermitGate
    term: int

    def tried(self) -> None:
        """Count the first attempt of a call; retries are limited to a share of these."""
        self._gate.retries.tries += 1

    def ended(self, kind: str | None, seconds: float) -> None:
        """The outcome is known (None: completed, else the kind of failure), after that many seconds. An attempt that
        timed out may still be running: its slot is not free."""
        breaker = self._gate.breaker
        if breaker.term == self.term:
            breaker.calls += 1
            if kind is not None or seconds >= breaker.slow_after:
                self._gate.count_trouble(kind, seconds)

    def release(self) -> None:
        """It is really over: its slot is free. Without `ended` before it, the attempt was abandoned, and tells
        nothing."""

    def give_back(self) -> None:
        """Return the permit unused: no attempt was made, and nothing is counted."""


class SpecialPermit(Permit, eq=False):
    """A permit for a single attempt, because it is a probe, has a ramp, or holds a slot.

    Attributes:
        probe: the id of the probe that it is, through a half-open breaker.
        ramp: what let it in, while traffic is raised slowly.
    """

    probe: str | None
    ramp: Ramp | None

    def ended(self, kind: str | None, seconds: float) -> None:
        """See `Permit`."""
        super().ended(kind, seconds)
        self._gate.ended(self, kind, seconds)

    def release(self) -> None:
        """See `Permit`."""
        self._gate.left(self, unused=False)

    def give_back(self) -> None:
        """See `Permit`."""
        self._gate.left(self, unused=True)
