"""Every event type that this release knows, by name, and the kinds of them that others ask for."""

from __future__ import annotations

from pointsman.kernel.events.base import Event
from pointsman.kernel.events.causes import (
    CallCompleted,
    CallFailed,
    CallSkipped,
    CancelRequested,
    ChildEnded,
    HumanTaskAnswered,
    RunStarted,
    SignalReceived,
    TimerFired,
)
from pointsman.kernel.events.notes import (
    AttemptFailed,
    CallAdmitted,
    CallHeld,
    CallOverspent,
    CallReassigned,
    CallReserved,
    CallRetried,
    EffectRecorded,
    HumanTaskOpened,
    RunStopped,
)
from pointsman.kernel.events.requests import (
    AgentRerouted,
    AgentSelected,
    CallCancelled,
    CallRefused,
    CallRequested,
    ChildStarted,
    RunCompleted,
    RunFailed,
    RunWasCancelled,
    SignalAwaited,
    TimerSet,
)

Mailed = SignalReceived | HumanTaskAnswered | ChildEnded | CancelRequested | EffectRecorded
"""What comes by the run's mailbox."""
TERMINAL = (RunCompleted, RunFailed, RunWasCancelled)
"""One of these ends a run, and nothing follows it."""

EVENT_TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted, CallCompleted, CallFailed, CallSkipped, TimerFired, SignalReceived, HumanTaskAnswered, ChildEnded,
        CancelRequested,
        CallRequested, TimerSet, SignalAwaited, ChildStarted, AgentSelected, AgentRerouted, CallRefused, CallCancelled,
        RunCompleted, RunFailed, RunWasCancelled, AttemptFailed, CallRetried, CallReassigned, CallHeld, CallAdmitted,
        CallReserved, CallOverspent, HumanTaskOpened, EffectRecorded, RunStopped,
    )
}  # fmt: skip
