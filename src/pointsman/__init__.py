"""Pointsman: a durable, distributed coordinator for multi-agent work."""

from pointsman.agents.agent import Agent, AgentError, Context
from pointsman.agents.workflow import Workflow
from pointsman.app import App
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import (
    CallError,
    ChildError,
    ForeignAwaitable,
    InvalidInput,
    InvalidValue,
    NonDeterministicWorkflow,
    PointsmanError,
    RunCancelled,
    SignalTimeout,
    UnknownAgent,
)
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.run import Run
from pointsman.kernel.strands import Handle
from pointsman.ports.runs import StartRun

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentError",
    "App",
    "CallError",
    "ChildError",
    "Context",
    "CoordinatorSettings",
    "ForeignAwaitable",
    "Handle",
    "InvalidInput",
    "InvalidValue",
    "NonDeterministicWorkflow",
    "PointsmanError",
    "Retry",
    "Run",
    "RunCancelled",
    "SignalTimeout",
    "StartRun",
    "UnknownAgent",
    "Workflow",
]
