"""The mode of a cluster: what it is, and when it changes.

Pure: the state of the system stream `mode`, what was measured, and the time, give the events to append. Whoever
measures a reason first appends; the loser of a race decides again on what it reads then.

It goes up as soon as a signal is at its threshold in two looks in a row, by as many steps as it takes. It comes down by
one step, when every signal of every coordinator is below the share `leave` of what it takes to enter, and the mode has
lasted for its minimum. So a signal that stays around its threshold changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Event

FULL, DEGRADED, EMERGENCY = "full", "degraded", "emergency"
MODES = (FULL, DEGRADED, EMERGENCY)
"""From everything to the least."""
OPTIONAL = ("memory", "evaluation")
"""What a call may be optional for."""


def omits(mode: str, optional: str) -> bool:
    """Is a call that declares its answer given that answer, and not made?"""
    return mode == EMERGENCY or (mode == DEGRADED and bool(optional))


class ModeChanged(Event, frozen=True, omit_defaults=True):
    """By what was measured. Up: `signal` had `value`, which is at its `threshold` or over; down: no signal is named.
    `coordinator` appended it."""

    mode: str
    before: str
    signal: str = ""
    value: float = 0.0
    threshold: float = 0.0
    coordinator: str = ""


class ModePinned(Event, frozen=True, omit_defaults=True):
    """By a person, until it is unpinned."""

    mode: str
    by: str
    reason: str = ""


class ModeUnpinned(Event, frozen=True, omit_defaults=True):
    by: str
    reason: str = ""


class ModeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the events above add up to.

    Attributes:
        measured: the mode by what was measured; it goes on changing while another one is pinned.
        measured_at: ms by the database's clock, when it last did.
        pinned: by a person; empty: none is.
        since: ms, when the mode in force changed.
        cause: why it did, for people.
        by: who did it: a coordinator, or a person.
    """

    measured: str = FULL
    measured_at: int = 0
    pinned: str = ""
    since: int = 0
    cause: str = ""
    by: str = ""

    @property
    def mode(self) -> str:
        """The one in force."""
        return self.pinned or self.measured


class Threshold(msgspec.Struct, frozen=True):
    """Of one signal: from where on the cluster is degraded, and from where on it is an emergency."""

    degraded: float
    emergency: float

    def level(self, value: float) -> int:
        """0: full."""
        return 2 if value >= self.emergency else 1 if value >= self.degraded else 0

    def at(self, level: int) -> float:
        """What it takes to be at this level, 1 or 2."""
        return self.emergency if level == 2 else self.degraded


class ModePolicy(msgspec.Struct, frozen=True):
    """Attributes:
    thresholds: by signal.
    leave: a mode is left when every signal is below this share of what it takes to enter it.
    stay_ms: a mode lasts at least so long before it is left for a lesser one.
    """

    thresholds: Mapping[str, Threshold]
    leave: float = 0.5
    stay_ms: int = 10_000


Signals = Mapping[str, float]


def evolve(state: ModeState, event: Event, at: int) -> ModeState:
    """Fold one event in; `at` in ms."""
    replace = msgspec.structs.replace
    match event:
        case ModeChanged():
            was = state.mode
            state = replace(state, measured=event.mode, measured_at=at)
            if state.mode == was:
                return state
            cause = "every signal is low again"
            if event.signal:
                cause = f"{event.signal} {event.value:.3g}, threshold {event.threshold:.3g}"
            return replace(state, since=at, cause=cause, by=event.coordinator)
        case ModePinned():
            return replace(state, pinned=event.mode, since=at, cause=event.reason or "pinned", by=event.by)
        case ModeUnpinned():
            return replace(state, pinned="", since=at, cause=event.reason or "unpinned", by=event.by)
    return state


def change(
    state: ModeState, own: Sequence[Signals], others: Sequence[Signals], policy: ModePolicy, now: int, coordinator: str
) -> list[Event]:
    """What measurements change of the measured mode.

    Args:
        own: the last looks of this coordinator, the newest last; fewer than two decide nothing.
        others: what the other coordinators measured last.
    """
    level = MODES.index(state.measured)
    if len(own) < 2:
        return []
    worst, cause = 0, ""
    for name, threshold in policy.thresholds.items():
        reached = min(threshold.level(look.get(name, 0.0)) for look in own[-2:])
        if reached > worst:
            worst, cause = reached, name
    if worst > level:
        value, threshold = own[-1].get(cause, 0.0), policy.thresholds[cause]
        return [ModeChanged(MODES[worst], state.measured, cause, value, threshold.at(worst), coordinator)]
    if level == 0 or now - state.measured_at < policy.stay_ms:
        return []
    for look in (*own[-2:], *others):
        for name, threshold in policy.thresholds.items():
            if look.get(name, 0.0) >= policy.leave * threshold.at(level):
                return []
    return [ModeChanged(MODES[level - 1], state.measured, coordinator=coordinator)]


def pin(state: ModeState, mode: str, by: str, reason: str) -> list[Event]:
    """Raises InvalidValue: no such mode."""
    if mode not in MODES:
        raise InvalidValue(f"{mode!r} is no mode: one of {', '.join(MODES)}, or auto")
    return [] if (state.pinned, state.by) == (mode, by) else [ModePinned(mode, by, reason)]


def unpin(state: ModeState, by: str, reason: str) -> list[Event]:
    """Nothing where none is pinned."""
    return [ModeUnpinned(by, reason)] if state.pinned else []
