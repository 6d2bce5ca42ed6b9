"""The routes on human tasks: list, show, answer, decline. Each reads, checks, asks `Inbox`, answers.

Must not know where tasks are kept, nor what becomes of an answer.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pointsman.api.body import check_depth, decode_body
from pointsman.api.errors import InvalidId, InvalidQuery
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.runs import TENANT_HEADER, optional_id, same_tenant
from pointsman.api.views import encode, time
from pointsman.kernel.events import Failure
from pointsman.ports.human_tasks import TASK_STATUSES, HumanTask, TaskFilter
from pointsman.ports.inbox import GivenAnswer, Inbox, TaskAccepted, TaskView

_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Person = Annotated[str, Meta(min_length=1, max_length=128)]


class AnswerBody(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw
    by: Person


class DeclineBody(msgspec.Struct, forbid_unknown_fields=True):
    by: Person
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class TaskBody(msgspec.Struct):
    """`agent` and what follows stand in the answer to a question for one task, and not in lists."""

    id: str
    run: str
    call: str
    tenant: str
    workflow: str
    status: str
    question: str
    detail: msgspec.Raw
    opened_at: str
    closed_at: str | None
    agent: str | UnsetType = UNSET
    output_schema: dict[str, Any] | UnsetType | None = UNSET
    input: msgspec.Raw | UnsetType = UNSET
    attempts: list[FailedAttemptBody] | UnsetType = UNSET
    answer: AnswerGivenBody | UnsetType | None = UNSET


class FailedAttemptBody(msgspec.Struct):
    attempt: int
    agent: str
    at: str
    failure: Failure


class AnswerGivenBody(msgspec.Struct):
    by: str
    at: str
    output: msgspec.Raw | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET


class TasksBody(msgspec.Struct):
    tasks: list[TaskBody]
    cursor: str | None


_answer_decoder = msgspec.json.Decoder(AnswerBody)
_decline_decoder = msgspec.json.Decoder(DeclineBody)


class TaskRoutes:
    """Handlers over a coordinator's `Inbox`."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def list(self, request: ApiRequest) -> Reply:
        settings = request.settings
        query = request.query("run", "tenant", "limit", "cursor", repeatable=("status",))
        limit = query.integer("limit", settings.page_limit_default, low=1, high=settings.page_limit_max)
        where = TaskFilter(
            status=_statuses(query.all("status")),
            tenant=same_tenant(request, query.text("tenant")),
            run=optional_id(query.text("run"), "run"),
        )
        tasks, cursor = await self._inbox.list(where, limit=limit, cursor=query.text("cursor"))
        return Reply(200, encode(TasksBody([_task_body(task) for task in tasks], cursor)))

    async def get(self, request: ApiRequest) -> Reply:
        request.query()
        return Reply(200, encode(_view_body(await self._inbox.get(_task(request), tenant=_tenant(request)))))

    async def answer(self, request: ApiRequest) -> Reply:
        request.query()
        task = _task(request)
        raw = await request.body()
        check_depth(raw, request.settings.json_depth_max + 1)  # the body itself is one level
        body = decode_body(raw, _answer_decoder, AnswerBody.__struct_fields__)
        return _accepted(await self._inbox.answer(task, bytes(body.value), by=body.by, tenant=_tenant(request)))

    async def decline(self, request: ApiRequest) -> Reply:
        request.query()
        task = _task(request)
        body = decode_body(await request.body(), _decline_decoder, DeclineBody.__struct_fields__)
        return _accepted(await self._inbox.decline(task, reason=body.reason, by=body.by, tenant=_tenant(request)))


def _task(request: ApiRequest) -> str:
    """Raises: InvalidId."""
    task = request.params["task"]
    if _TASK_ID.fullmatch(task) is None:
        raise InvalidId("task: an id of a human task is 1 to 64 characters of A-Z a-z 0-9 _ -")
    return task


def _tenant(request: ApiRequest) -> str | None:
    return request.id_header(TENANT_HEADER)


def _statuses(asked: list[str]) -> tuple[str, ...]:
    for status in asked:
        if status not in TASK_STATUSES:
            raise InvalidQuery(f"status {status!r} is none of {', '.join(TASK_STATUSES)}")
    return tuple(asked)


def _accepted(accepted: TaskAccepted) -> Reply:
    return Reply(200 if accepted.repeated else 202, encode(accepted))


def _task_body(task: HumanTask) -> TaskBody:
    return TaskBody(
        id=task.id,
        run=task.run,
        call=task.call,
        tenant=task.tenant,
        workflow=task.workflow,
        status=task.status,
        question=task.question,
        detail=task.detail,
        opened_at=time(task.opened_at),
        closed_at=None if task.closed_at is None else time(task.closed_at),
    )


def _view_body(view: TaskView) -> TaskBody:
    body = _task_body(view.task)
    body.agent = view.agent
    body.output_schema = view.output_schema
    body.input = view.input
    body.attempts = [FailedAttemptBody(one.attempt, one.agent, time(one.at), one.failure) for one in view.attempts]
    body.answer = None if view.answer is None else _answer_body(view.answer)
    return body


def _answer_body(given: GivenAnswer) -> AnswerGivenBody:
    output = UNSET if given.output is None else given.output
    return AnswerGivenBody(given.by, time(given.at), output, UNSET if given.failure is None else given.failure)
