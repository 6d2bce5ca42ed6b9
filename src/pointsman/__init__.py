"""Pointsman: a durable, distributed coordinator for multi-agent work."""

from typing import TYPE_CHECKING, Any

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import Agent, AgentError, AgentRefused, ContextOverflow, RateLimited
from pointsman.agents.card import Card, Health
from pointsman.agents.context import Context
from pointsman.agents.workflow import Workflow
from pointsman.app import App, HttpAgents, Webhook
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.asking import Answer, Question
from pointsman.kernel.errors import (
    CallError,
    ChildError,
    DeadEnd,
    ForeignAwaitable,
    InvalidInput,
    InvalidState,
    InvalidValue,
    LoopDetected,
    NonDeterministicWorkflow,
    NotAnswered,
    PointsmanError,
    RunCancelled,
    RunDeadlocked,
    SignalTimeout,
    StateChangedInPlace,
    StateFromFuture,
    StoreUnavailable,
    UnknownAgent,
)
from pointsman.kernel.policy.amounts import Budget, Cost
from pointsman.kernel.policy.breaker import Breaker
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.run import Run
from pointsman.kernel.strands import Handle
from pointsman.ports.runs import StartRun
from pointsman.workflows.conversation import Conversation, Message, Thread
from pointsman.workflows.fan_out import FannedOut, fan_out
from pointsman.workflows.plan import Executed, Plan, Task
from pointsman.workflows.refine import Refined, Verdict, refine
from pointsman.workflows.saga import Saga
from pointsman.workflows.supervise import Board, Decision, Supervised, Turn, supervise
from pointsman.workflows.triggers import EndEvent

if TYPE_CHECKING:
    from pointsman.client import AsyncClient, Client

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "AgentAddresses",
    "AgentError",
    "AgentRefused",
    "Answer",
    "App",
    "AsyncClient",
    "Board",
    "Breaker",
    "Budget",
    "CallError",
    "Card",
    "ChildError",
    "Client",
    "Context",
    "ContextOverflow",
    "Conversation",
    "CoordinatorSettings",
    "Cost",
    "DeadEnd",
    "Decision",
    "EndEvent",
    "Executed",
    "FannedOut",
    "ForeignAwaitable",
    "Handle",
    "Health",
    "HttpAgents",
    "InvalidInput",
    "InvalidState",
    "InvalidValue",
    "LoopDetected",
    "Message",
    "NonDeterministicWorkflow",
    "NotAnswered",
    "Plan",
    "PointsmanError",
    "Question",
    "RateLimited",
    "Refined",
    "Retry",
    "Run",
    "RunCancelled",
    "RunDeadlocked",
    "Saga",
    "SignalTimeout",
    "StartRun",
    "StateChangedInPlace",
    "StateFromFuture",
    "StoreUnavailable",
    "Supervised",
    "Task",
    "Thread",
    "Turn",
    "UnknownAgent",
    "Verdict",
    "Webhook",
    "Workflow",
    "fan_out",
    "refine",
    "supervise",
]


def __getattr__(name: str) -> Any:
    """The clients are loaded when they are asked for: they bring an HTTP library, which a coordinator does not need."""
    if name in ("AsyncClient", "Client"):
        from pointsman import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
