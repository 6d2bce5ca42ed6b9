"""What ships for tests: for a user's own, an environment in which time is skipped and agents follow a script; for
stores the suite that every one must pass; the simulator, drills with real faults, and the replay of histories."""

from pointsman.testing.environment.asynchronous import WorkflowEnvironment
from pointsman.testing.environment.blocking import SyncWorkflowEnvironment
from pointsman.testing.environment.scripts import After, AgentCall, Emits, ScriptEnded, Timeout
from pointsman.testing.environment.world import RunNotCompleted

__all__ = [
    "After",
    "AgentCall",
    "Emits",
    "RunNotCompleted",
    "ScriptEnded",
    "SyncWorkflowEnvironment",
    "Timeout",
    "WorkflowEnvironment",
]
