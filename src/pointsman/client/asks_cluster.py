"""What each verb on people, agents, breakers, budgets, the mode and workers asks of the API. As `asks.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from pointsman.api.agents import DisableBody, PinBody
from pointsman.api.budgets import BudgetBody, BudgetsBody
from pointsman.api.modes import ModeBody, SetModeBody
from pointsman.api.tasks import TaskBody, TasksBody
from pointsman.api.views_agents import AgentBody, AgentsBody, BreakerBody, BreakersBody
from pointsman.api.workers import WorkersBody
from pointsman.client.asks import PAGE, Ask, Pages, encoded, given_params, path, without_defaults
from pointsman.ports.inbox import TaskAccepted

# -- people ------------------------------------------------------------------------------------------------------------


def tasks(
    *, status: Sequence[str] = ("open",), assignee: str | None = None, workflow: str | None = None,
    run: str | None = None, tenant: str | None = None, page: int = PAGE,
) -> Pages[TaskBody]:  # fmt: skip
    """List human tasks, oldest first. `assignee`: only those of this person or group; empty: only those assigned to
    nobody.
    """
    where = [("status", one) for one in ((status,) if isinstance(status, str) else status)]
    where += given_params(assignee=assignee, workflow=workflow, run=run, tenant=tenant, limit=page)
    return Pages(lambda cursor: Ask(TasksBody, "GET", path("tasks"), [*where, *given_params(cursor=cursor)]),
                 lambda got: got.tasks, lambda got: got.cursor)  # fmt: skip


def task(task: str) -> Ask[TaskBody]:
    """Get one human task, with everything needed to answer it. Raises UnknownTask."""
    return Ask(TaskBody, "GET", path("tasks", task))


def answer(task: str, value: Any, *, by: str, digest: str) -> Ask[TaskAccepted]:
    """Answer a question; the first answer counts. `digest`: of what the person saw, as the task says it.

    Raises:
        UnknownTask, TaskAnswered (somebody was first), TaskClosed, AnswerMisplaced (another question is asked),
        InvalidInput (it is not what is asked for).
    """
    body = msgspec.json.encode({"value": encoded(value), "by": by, "digest": digest})
    return Ask(TaskAccepted, "POST", path("tasks", task, "answer"), (), body)


def refuse(task: str, *, by: str, digest: str, reason: str = "") -> Ask[TaskAccepted]:
    """Say that there will be no answer. Raises: UnknownTask, TaskAnswered, TaskClosed, AnswerMisplaced."""
    body = msgspec.json.encode({"by": by, "digest": digest, **({"reason": reason} if reason else {})})
    return Ask(TaskAccepted, "POST", path("tasks", task, "refuse"), (), body)


def assign(task: str, assignee: str, *, by: str) -> Ask[TaskAccepted]:
    """Give a question to a person or group; empty: to whoever looks. Not sent twice by itself: a late repetition would
    take it from whom it was given to meanwhile. Raises: UnknownTask, TaskAnswered, TaskClosed."""
    body = msgspec.json.encode({"assignee": assignee, "by": by})
    return Ask(TaskAccepted, "POST", path("tasks", task, "assign"), (), body, repeats=False)


# -- agents, breakers, budgets, mode, workers --------------------------------------------------------------------------


def agents() -> Ask[AgentsBody]:
    """List all agents, by name."""
    return Ask(AgentsBody, "GET", path("agents"))


def agent(name: str) -> Ask[AgentBody]:
    """Get one agent. Raises AgentNotFound."""
    return Ask(AgentBody, "GET", path("agents", name))


def enable_agent(name: str) -> Ask[AgentBody]:
    """Let an agent have calls again. Raises: AgentNotFound."""
    return Ask(AgentBody, "POST", path("agents", name, "enable"))


def disable_agent(name: str, *, reason: str = "") -> Ask[AgentBody]:
    """Let an agent have no new calls; attempts under way go on. Raises: AgentNotFound."""
    return Ask(AgentBody, "POST", path("agents", name, "disable"), (), without_defaults(DisableBody(reason)))


def breakers() -> Ask[BreakersBody]:
    """The circuit breaker of each agent."""
    return Ask(BreakersBody, "GET", path("breakers"))


def pin_breaker(name: str, state: str) -> Ask[BreakerBody]:
    """Hold an agent's breaker `open` or `closed`. Raises: AgentNotFound."""
    return Ask(BreakerBody, "POST", path("breakers", name, "pin"), (), without_defaults(PinBody(state)))


def unpin_breaker(name: str) -> Ask[BreakerBody]:
    """Let a breaker decide itself again. Raises: AgentNotFound."""
    return Ask(BreakerBody, "POST", path("breakers", name, "unpin"))


def budgets(*, page: int = PAGE) -> Pages[BudgetBody]:
    """The budgets of agents and tenants, by scope and name."""
    return Pages(lambda cursor: Ask(BudgetsBody, "GET", path("budgets"), given_params(limit=page, cursor=cursor)),
                 lambda got: got.budgets, lambda got: got.cursor)  # fmt: skip


def budget(scope: str, name: str) -> Ask[BudgetBody]:
    """One budget; the scope is `agent` or `tenant`. Raises: UnknownBudget."""
    return Ask(BudgetBody, "GET", path("budgets", scope, name))


def set_budget(
    scope: str, name: str, *, by: str, usd: float | None = None, tokens: int | None = None, calls: int | None = None,
    per: float | None = None,
) -> Ask[BudgetBody]:  # fmt: skip
    """Set a budget; what is None is not limited. It stands above what the code declares.

    Args:
        per: seconds after which it is whole again; never without.
    """
    limits = {"usd": usd, "tokens": tokens, "calls": calls, "per": per}
    body = msgspec.json.encode({"by": by, **{name: value for name, value in limits.items() if value is not None}})
    return Ask(BudgetBody, "PUT", path("budgets", scope, name), (), body)


def mode() -> Ask[ModeBody]:
    """The cluster's mode, the signals that decide it, and its latest changes."""
    return Ask(ModeBody, "GET", path("mode"))


def set_mode(mode: Literal["full", "degraded", "emergency", "auto"], *, by: str, reason: str = "") -> Ask[ModeBody]:
    """Pin the cluster's mode; `auto`: what is measured decides again."""
    body = SetModeBody(mode, by, reason)
    return Ask(ModeBody, "PUT", path("mode"), (), msgspec.json.encode(body))


def workers() -> Ask[WorkersBody]:
    """The workers that come to the coordinator that is asked."""
    return Ask(WorkersBody, "GET", path("workers"))
