"""A typed client of the HTTP API, blocking (`Client`) and asynchronous (`AsyncClient`), with the same verbs.

asks.py          what each verb sends, and the type of its answer: one function for each
verbs.py         how a function of `asks.py` becomes a method of both clients
blocking.py, asynchronous.py    the two clients: connections, waiting, iteration
patience.py      what is tried again, and for how long
following.py     a run's event stream across connections
errors.py        problems of the API as named errors
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pointsman.api.budgets import BudgetBody
    from pointsman.api.tasks import TaskBody
    from pointsman.api.views import AcceptedBody, EventBody, RedrivenBody, ResultBody, RunBody
    from pointsman.api.views_agents import AgentBody, BreakerBody
    from pointsman.client.asynchronous import AsyncClient
    from pointsman.client.blocking import Client
    from pointsman.client.errors import (
        ClientError,
        DeadlinePassed,
        InvalidArgument,
        Refused,
        RunHeldBack,
        RunNotCompleted,
        Unreachable,
    )

__all__ = [
    "AcceptedBody",
    "AgentBody",
    "AsyncClient",
    "BreakerBody",
    "BudgetBody",
    "Client",
    "ClientError",
    "DeadlinePassed",
    "EventBody",
    "InvalidArgument",
    "RedrivenBody",
    "Refused",
    "ResultBody",
    "RunBody",
    "RunHeldBack",
    "RunNotCompleted",
    "TaskBody",
    "Unreachable",
]

_NAMES = {
    "pointsman.api.budgets": "BudgetBody",
    "pointsman.api.tasks": "TaskBody",
    "pointsman.api.views": "AcceptedBody EventBody RedrivenBody ResultBody RunBody",
    "pointsman.api.views_agents": "AgentBody BreakerBody",
    "pointsman.client.asynchronous": "AsyncClient",
    "pointsman.client.blocking": "Client",
    "pointsman.client.errors": "ClientError DeadlinePassed InvalidArgument Refused RunHeldBack RunNotCompleted "
    "Unreachable",
}
"""Loaded when it is asked for: a command needs one of the two clients, and few of the types."""
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
