"""Pointsman: a durable, distributed coordinator for multi-agent work.

Public names are imported lazily, on first access, so that a command that only talks to the API does not load the
coordinator.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointsman.agents.addresses import AgentAddresses
    from pointsman.agents.agent import Agent, AgentError, AgentRefused, ContextOverflow, RateLimited
    from pointsman.agents.card import Card, Health
    from pointsman.agents.context import Context
    from pointsman.agents.workflow import Workflow
    from pointsman.app import App, HttpAgents, Webhook
    from pointsman.client import AsyncClient, Client
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

_NAMES = {
    "agents.addresses": "AgentAddresses",
    "agents.agent": "Agent AgentError AgentRefused ContextOverflow RateLimited",
    "agents.card": "Card Health",
    "agents.context": "Context",
    "agents.workflow": "Workflow",
    "app": "App HttpAgents Webhook",
    "client": "AsyncClient Client",
    "coordinator.settings": "CoordinatorSettings",
    "kernel.asking": "Answer Question",
    "kernel.errors": "CallError ChildError DeadEnd ForeignAwaitable InvalidInput InvalidState InvalidValue "
    "LoopDetected NonDeterministicWorkflow NotAnswered PointsmanError RunCancelled RunDeadlocked SignalTimeout "
    "StateChangedInPlace StateFromFuture StoreUnavailable UnknownAgent",
    "kernel.policy.amounts": "Budget Cost",
    "kernel.policy.breaker": "Breaker",
    "kernel.policy.retry": "Retry",
    "kernel.run": "Run",
    "kernel.strands": "Handle",
    "ports.runs": "StartRun",
    "workflows.conversation": "Conversation Message Thread",
    "workflows.fan_out": "FannedOut fan_out",
    "workflows.plan": "Executed Plan Task",
    "workflows.refine": "Refined Verdict refine",
    "workflows.saga": "Saga",
    "workflows.supervise": "Board Decision Supervised Turn supervise",
    "workflows.triggers": "EndEvent",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
