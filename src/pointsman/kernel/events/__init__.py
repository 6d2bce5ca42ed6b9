"""The events of a run: frozen facts in the past tense, each with a version, and how they become bytes and back.

A type's name and version are declared here and never derived from a class path. A released version of an event never
changes: a new shape is a new version, with an upcaster in `upcast.py`. Fields left at their default are not written.

Three groups, and the law between them (see `execution.py`):
- a *cause* is delivered to the workflow's body, which then runs until it waits again;
- a *request* is what the body did in answer; the requests of a cause follow it directly in the log;
- a *note* changes the folded state alone; the body never sees it.

An input stands in an event whole, as JSON in `input`, or as `pieces` (see `pieces.py`), and then with its digest.
"""

from pointsman.kernel.events.base import (
    ABSENT,
    Cause,
    Emission,
    Event,
    Failure,
    KeptSignal,
    KeptState,
    Note,
    PlannedTask,
    Recorded,
    Request,
)
from pointsman.kernel.events.causes import (
    CallCompleted,
    CallFailed,
    CallSkipped,
    CancelRequested,
    ChildEnded,
    HumanTaskAnswered,
    RunRestarted,
    RunStarted,
    SignalReceived,
    TimerFired,
)
from pointsman.kernel.events.encoding import (
    decode_event,
    encode_event,
    same_bytes,
    with_input,
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
    LogRepaired,
    RunRedriven,
    RunStopped,
)
from pointsman.kernel.events.registry import (
    CATALOGUE,
    EVENT_TYPES,
    TERMINAL,
    Mailed,
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
    ModeRead,
    PlanDeclared,
    RunCompleted,
    RunFailed,
    RunWasCancelled,
    SignalAwaited,
    StateSet,
    TimerSet,
)

__all__ = [
    "ABSENT",
    "CATALOGUE",
    "EVENT_TYPES",
    "TERMINAL",
    "AgentRerouted",
    "AgentSelected",
    "AgentsTriggered",
    "AttemptFailed",
    "CallAdmitted",
    "CallCancelled",
    "CallCompleted",
    "CallFailed",
    "CallHeld",
    "CallOmitted",
    "CallOverspent",
    "CallReassigned",
    "CallRefused",
    "CallRequested",
    "CallReserved",
    "CallRetried",
    "CallSkipped",
    "CancelRequested",
    "Cause",
    "ChildEnded",
    "ChildStarted",
    "EffectRecorded",
    "Emission",
    "Event",
    "Failure",
    "HumanTaskAnswered",
    "HumanTaskOpened",
    "KeptSignal",
    "KeptState",
    "LogRepaired",
    "Mailed",
    "ModeRead",
    "Note",
    "PlanDeclared",
    "PlannedTask",
    "Recorded",
    "Request",
    "RunCompleted",
    "RunFailed",
    "RunRedriven",
    "RunRestarted",
    "RunStarted",
    "RunStopped",
    "RunWasCancelled",
    "SignalAwaited",
    "SignalReceived",
    "StateSet",
    "TimerFired",
    "TimerSet",
    "decode_event",
    "encode_event",
    "same_bytes",
    "with_input",
]
