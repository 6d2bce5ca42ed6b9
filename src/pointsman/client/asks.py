"""What each verb asks of the API: a request, and the type of its answer. Nothing is sent here.

A request that is sent twice must be done once, because an answer may be lost: so what begins something carries an id or
a key, made here when none is given. What can't carry one says `repeats=False`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from pointsman.api.agents import DisableBody, PinBody
from pointsman.api.budgets import BudgetBody, BudgetsBody, SetBody
from pointsman.api.runs import CancelBody, RedriveBody, StartBody
from pointsman.api.tasks import TaskBody, TasksBody
from pointsman.api.views import AcceptedBody, EventBody, EventsBody, RedrivenBody, ResultBody, RunBody, RunsBody
from pointsman.api.views_agents import AgentBody, AgentsBody, BreakerBody, BreakersBody
from pointsman.client.errors import InvalidArgument
from pointsman.kernel import values
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.inbox import TaskAccepted

T = TypeVar("T")
Item = TypeVar("Item")
PAGE = 200
EVENTS_PAGE = 500


@dataclass(frozen=True)
class Ask(Generic[T]):
    """A request and the type of its answer.

    Attributes:
        type: of the answer's JSON, T.
        repeats: done twice it is done once.
        wait_s: how long the API may hold the answer back.
    """

    type: Any
    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True
    wait_s: float = 0.0


@dataclass(frozen=True)
class Pages(Generic[Item]):
    """A list that comes in pages.

    Attributes:
        ask: the request for the page at a cursor; None: the first.
        items: of a page. next: the cursor of the page after it; None: there is none.
    """

    ask: Callable[[Any], Ask[Any]]
    items: Callable[[Any], Iterable[Item]]
    next: Callable[[Any], Any]


def path(*segments: str) -> str:
    """A path below /v1. Each is one segment, whatever is in it. Raises InvalidArgument: one is empty."""
    for segment in segments:
        if not segment:
            raise InvalidArgument(f"an id or name is empty, in {'/'.join(segments)}")
    return "/v1/" + "/".join(_segment(segment) for segment in segments)


def _segment(typed: str) -> str:
    segment = quote(typed, safe="", errors="surrogateescape")
    return segment if segment.strip(".") else segment.replace(".", "%2E")  # `..` would climb


def _json(body: msgspec.Struct) -> bytes:
    """The body without what stands at its default, so that an older coordinator takes it too."""
    fields = msgspec.structs.fields(body)
    given = {one.name: getattr(body, one.name) for one in fields}
    return msgspec.json.encode({name: value for name, value in given.items() if value not in (None, {}, "", False)})


def encoded(value: Any) -> msgspec.Raw:
    """A value as canonical JSON; a `msgspec.Raw` is JSON already. Raises InvalidValue."""
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(values.encode(value))


def _given(**params: Any) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in params.items() if value is not None]


# -- runs --------------------------------------------------------------------------------------------------------------


def start(
    workflow: str, input: Any = None, *, id: str | None = None, key: str | None = None,  # noqa: A002  the API's words
    version: int | None = None, tenant: str | None = None, attributes: Mapping[str, Any] | None = None,
    budget: Budget | None = None, wait: float = 0.0,
) -> Ask[RunBody]:  # fmt: skip
    """Start a run, durably, or find the one that was started with the same id or key.

    Args:
        input: plain data, a pydantic model, a dataclass, or JSON as `msgspec.Raw`.
        id: the run's id. key: makes one, the same for the same key. Without both it is a new run.
        version: of the workflow; None: the newest.
        attributes: to find the run by: scalars, or lists of scalars.
        wait: seconds to wait for its end; the run is returned as it is then.

    Raises:
        UnknownWorkflow, InvalidInput, RunConflict (the same id or key with another input), InvalidValue.
    """
    wish = StartBody(workflow, encoded(input), id, version, tenant, dict(attributes or {}), budget)
    given = {name: getattr(wish, name) for name in wish.__struct_fields__ if name != "input"}
    body = msgspec.json.encode({**{k: v for k, v in given.items() if v not in (None, {})}, "input": wish.input})
    headers = {} if id is not None else {"Idempotency-Key": key or secrets.token_hex(16)}
    params = _given(wait=wait or None)
    return Ask(RunBody, "POST", path("runs"), params, body, headers, wait_s=wait)


def get(run: str) -> Ask[RunBody]:
    """One run. Raises: UnknownRun."""
    return Ask(RunBody, "GET", path("runs", run))


def result(run: str, wait_s: float) -> Ask[ResultBody]:
    """The run's outcome, or that it has none yet, after at most `wait_s` seconds."""
    return Ask(ResultBody, "GET", path("runs", run, "result"), _given(timeout=f"{wait_s:.3f}"), wait_s=wait_s)


def list_runs(
    *, status: Sequence[str] = (), workflow: str | None = None, tenant: str | None = None,
    attributes: Mapping[str, Any] | None = None, page: int = PAGE,
) -> Pages[RunBody]:  # fmt: skip
    """Runs, newest first, page by page as they are read.

    Args:
        status: only in one of these; all without.
        attributes: only runs that have all of these.
        page: runs that are asked for at a time.
    """
    where = [("status", one) for one in ((status,) if isinstance(status, str) else status)]
    where += _given(workflow=workflow, tenant=tenant, limit=page)
    where += [("attribute", f"{key}:{values.encode(value).decode()}") for key, value in (attributes or {}).items()]
    return Pages(lambda cursor: Ask(RunsBody, "GET", path("runs"), [*where, *_given(cursor=cursor)]),
                 lambda got: got.runs, lambda got: got.cursor)  # fmt: skip


def events(run: str, *, after: int = 0, inputs: bool = False, page: int = EVENTS_PAGE) -> Pages[EventBody]:
    """The run's events so far, after the sequence `after`.

    Args:
        inputs: rebuild inputs that are stored in pieces.
    """
    more = _given(limit=page, inputs="true" if inputs else None)
    return Pages(
        lambda cursor: Ask(EventsBody, "GET", path("runs", run, "events"), [("after", str(cursor or after)), *more]),
        lambda got: got.events, lambda got: got.next_after,
    )  # fmt: skip


def signal(run: str, name: str, payload: Any = None, *, key: str | None = None) -> Ask[AcceptedBody]:
    """Give a run what it waits for; durable once this returns. Sent twice under one key, it counts once.

    Raises:
        UnknownRun, RunEnded, DuplicateMail (the key was used with another payload), InvalidValue.
    """
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    return Ask(AcceptedBody, "POST", path("runs", run, "signals", name), (), bytes(encoded(payload)), headers)


def cancel(run: str, *, reason: str = "") -> Ask[AcceptedBody]:
    """Ask a run to stop; its workflow is told at its next await, and may clean up. Raises: UnknownRun, RunEnded."""
    return Ask(AcceptedBody, "POST", path("runs", run, "cancel"), (), _json(CancelBody(reason)))


def release(run: str) -> Ask[RunBody]:
    """Let a quarantined run go on. Raises: UnknownRun, NotQuarantined."""
    return Ask(RunBody, "POST", path("runs", run, "release"), repeats=False)


def redrive(
    run: str, *, sequence: int | None = None, by: str = "", reason: str = "", fresh_key: bool = False,
    dry_run: bool = False,
) -> Ask[RedrivenBody]:  # fmt: skip
    """Let a failed run go on from the call that failed.

    Args:
        sequence: of the run as you saw it fail: the same wish twice is then one redrive, and may be sent again.
        fresh_key: another idempotency key for the failed call; what it did under the old one may be done twice.
        dry_run: say what it would do, and do nothing.

    Raises:
        UnknownRun, NotRedrivable.
    """
    body = RedriveBody(sequence, by, reason, fresh_key, dry_run)
    repeats = sequence is not None or dry_run
    return Ask(RedrivenBody, "POST", path("runs", run, "redrive"), (), _json(body), repeats=repeats)


# -- people ------------------------------------------------------------------------------------------------------------


def tasks(
    *, status: Sequence[str] = ("open",), assignee: str | None = None, workflow: str | None = None,
    run: str | None = None, tenant: str | None = None, page: int = PAGE,
) -> Pages[TaskBody]:  # fmt: skip
    """What people are asked, oldest first. `assignee`: whose; empty: nobody's."""
    where = [("status", one) for one in ((status,) if isinstance(status, str) else status)]
    where += _given(assignee=assignee, workflow=workflow, run=run, tenant=tenant, limit=page)
    return Pages(lambda cursor: Ask(TasksBody, "GET", path("tasks"), [*where, *_given(cursor=cursor)]),
                 lambda got: got.tasks, lambda got: got.cursor)  # fmt: skip


def task(task: str) -> Ask[TaskBody]:
    """One question, with all that it takes to answer it. Raises: UnknownTask."""
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
    """Give a question to a person or group; empty: to whoever looks. Raises: UnknownTask, TaskAnswered, TaskClosed."""
    body = msgspec.json.encode({"assignee": assignee, "by": by})
    return Ask(TaskAccepted, "POST", path("tasks", task, "assign"), (), body)


# -- agents, breakers, budgets -----------------------------------------------------------------------------------------


def agents() -> Ask[AgentsBody]:
    """All agents, by name."""
    return Ask(AgentsBody, "GET", path("agents"))


def agent(name: str) -> Ask[AgentBody]:
    """One agent. Raises: AgentNotFound."""
    return Ask(AgentBody, "GET", path("agents", name))


def enable_agent(name: str) -> Ask[AgentBody]:
    """Let an agent have calls again. Raises: AgentNotFound."""
    return Ask(AgentBody, "POST", path("agents", name, "enable"))


def disable_agent(name: str, *, reason: str = "") -> Ask[AgentBody]:
    """Let an agent have no new calls; attempts under way go on. Raises: AgentNotFound."""
    return Ask(AgentBody, "POST", path("agents", name, "disable"), (), _json(DisableBody(reason)))


def breakers() -> Ask[BreakersBody]:
    """The circuit breaker of each agent."""
    return Ask(BreakersBody, "GET", path("breakers"))


def pin_breaker(name: str, state: str) -> Ask[BreakerBody]:
    """Hold an agent's breaker `open` or `closed`. Raises: AgentNotFound."""
    return Ask(BreakerBody, "POST", path("breakers", name, "pin"), (), _json(PinBody(state)))


def unpin_breaker(name: str) -> Ask[BreakerBody]:
    """Let a breaker decide itself again. Raises: AgentNotFound."""
    return Ask(BreakerBody, "POST", path("breakers", name, "unpin"))


def budgets(*, page: int = PAGE) -> Pages[BudgetBody]:
    """The budgets of agents and tenants, by scope and name."""
    return Pages(lambda cursor: Ask(BudgetsBody, "GET", path("budgets"), _given(limit=page, cursor=cursor)),
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
    body = SetBody(by, **{name: value for name, value in limits.items() if value is not None})  # type: ignore[arg-type]
    given = {name: getattr(body, name) for name in body.__struct_fields__}
    kept = msgspec.json.encode({name: value for name, value in given.items() if value is not None})
    return Ask(BudgetBody, "PUT", path("budgets", scope, name), (), kept)
