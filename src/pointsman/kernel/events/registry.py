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
    HumanTaskExpired,
    RunRestarted,
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
    HumanTaskAssigned,
    HumanTaskEscalated,
    HumanTaskOpened,
    LogRepaired,
    RunRedriven,
    RunStopped,
)
from pointsman.kernel.events.requests import (
    AgentRerouted,
    AgentSelected,
    AgentsTriggered,
    CallCancelled,
    CallOmitted,
    CallRefused,
    CallRequested,
    ChildStarted,
    HumanTaskRequested,
    ModeRead,
    PlanDeclared,
    RunCompleted,
    RunFailed,
    RunWasCancelled,
    SignalAwaited,
    StateSet,
    TimerSet,
)
from pointsman.kernel.values import digest

Mailed = (
    SignalReceived | HumanTaskAnswered | HumanTaskExpired | HumanTaskAssigned | ChildEnded | CancelRequested
    | EffectRecorded
)  # fmt: skip
"""What comes by the run's mailbox."""
TERMINAL = (RunCompleted, RunFailed, RunWasCancelled)
"""One of these ends a run, and nothing follows it."""

EVENT_TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted, RunRestarted, CallCompleted, CallFailed, CallSkipped, TimerFired, SignalReceived, HumanTaskAnswered,
        ChildEnded, CancelRequested,
        CallRequested, TimerSet, SignalAwaited, ChildStarted, AgentSelected, AgentsTriggered, PlanDeclared,
        AgentRerouted, CallRefused, CallCancelled, StateSet,
        HumanTaskRequested, HumanTaskExpired, HumanTaskAssigned, HumanTaskEscalated,
        RunCompleted, RunFailed, RunWasCancelled, AttemptFailed, CallRetried, CallReassigned, CallHeld, CallAdmitted,
        CallReserved, CallOverspent, HumanTaskOpened, EffectRecorded, RunStopped, LogRepaired, RunRedriven,
        CallOmitted, ModeRead,
    )
}  # fmt: skip

CATALOGUE = digest(" ".join(sorted(f"{name} v{cls.VERSION}" for name, cls in EVENT_TYPES.items())).encode())
"""Of all types and versions that this release knows. Part of every workflow's build: a run that was stopped because of
an event from the future goes on when a release comes that knows it."""
