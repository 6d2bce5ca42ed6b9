"""The routes on human tasks: list, show, answer, refuse, assign. Each reads, checks, asks `Inbox`, answers.

Must not know where tasks are kept, nor what happens with an answer.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pointsman.api.body import JsonBody
from pointsman.api.errors import TenantMismatch
from pointsman.api.parameters import CURSOR, LIMIT, TENANT, TENANT_FILTER, Choices, Id, PathId, Text
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.runs import same_tenant
from pointsman.api.views import encode, time
from pointsman.kernel.errors import (
    AnswerMisplaced,
    InvalidInput,
    InvalidValue,
    TaskAnswered,
    TaskClosed,
    UnknownAgent,
    UnknownTask,
)
from pointsman.kernel.events import Failure
from pointsman.ports.human_tasks import TASK_STATUSES, HumanTask, TaskFilter
from pointsman.ports.inbox import GivenAnswer, Inbox, TaskAccepted, TaskView

Person = Annotated[str, Meta(min_length=1, max_length=128)]


Digest = Annotated[str, Meta(max_length=64)]
"""The digest of what the person saw, as shown in the task."""


class AnswerBody(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw
    by: Person
    digest: Digest


class RefuseBody(msgspec.Struct, forbid_unknown_fields=True):
    by: Person
    digest: Digest
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class AssignBody(msgspec.Struct, forbid_unknown_fields=True):
    assignee: Annotated[str, Meta(max_length=128)]
    by: Person


class TaskBody(msgspec.Struct):
    """`digest` and what follows stand in the answer to a question for one task, and not in lists."""

    id: str
    run: str
    call: str
    tenant: str
    workflow: str
    status: str
    assignee: str
    question: str
    detail: msgspec.Raw
    opened_at: str
    closed_at: str | None
    digest: str | UnsetType = UNSET
    output_schema: dict[str, Any] | UnsetType | None = UNSET
    context: msgspec.Raw | UnsetType = UNSET
    proposed: msgspec.Raw | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    input: msgspec.Raw | UnsetType = UNSET
    attempts: list[FailedAttemptBody] | UnsetType = UNSET
    expires_at: str | UnsetType | None = UNSET
    escalate_at: str | UnsetType | None = UNSET
    escalate_to: str | UnsetType = UNSET
    escalations: list[EscalationBody] | UnsetType = UNSET
    handovers: list[HandoverBody] | UnsetType = UNSET
    answer: AnswerGivenBody | UnsetType | None = UNSET


class FailedAttemptBody(msgspec.Struct):
    attempt: int
    agent: str
    at: str
    failure: Failure


class EscalationBody(msgspec.Struct):
    assignee: str
    at: str


class HandoverBody(msgspec.Struct):
    assignee: str
    at: str
    by: str


class AnswerGivenBody(msgspec.Struct):
    by: str
    at: str
    edited: bool
    output: msgspec.Raw | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET


class TasksBody(msgspec.Struct):
    tasks: list[TaskBody]
    cursor: str | None


ANSWER = JsonBody(AnswerBody)
REFUSE = JsonBody(RefuseBody)
ASSIGN = JsonBody(AssignBody)
TASK = PathId(
    "task", "The task's id.", pattern=r"[A-Za-z0-9_-]{1,64}",
    meaning="an id of a human task is 1 to 64 characters of A-Z a-z 0-9 _ -",
)  # fmt: skip
TASK_STATUS = Choices("status", "Only in one of these.", values=TASK_STATUSES)
OF_RUN = Id("run", "Only of this run.")
OF_WORKFLOW = Id("workflow", "Only of this workflow's runs.")
ASSIGNEE = Text("assignee", "Only of this person or group; empty: nobody's.")

ON_TASK = (UnknownTask, TaskAnswered, TaskClosed)
ON_ANSWER = (*ON_TASK, AnswerMisplaced)
ACCEPTED = (
    Answer(202, TaskAccepted, "It is durable, and counts."),
    Answer(200, TaskAccepted, "The same person had said the same before."),
)


class TaskRoutes:
    """Handlers over a coordinator's `Inbox`."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    @route(
        "list_tasks", "GET", "/v1/tasks", "List what people are asked, oldest first", tag="human tasks",
        parameters=(TASK_STATUS, OF_RUN, OF_WORKFLOW, ASSIGNEE, TENANT_FILTER, LIMIT, CURSOR, TENANT),
        answers=(Answer(200, TasksBody, "A page of tasks."),), errors=(TenantMismatch, InvalidValue),
    )  # fmt: skip
    async def list(self, request: ApiRequest) -> Reply:
        where = TaskFilter(
            status=request.value(TASK_STATUS),
            tenant=same_tenant(request, request.value(TENANT_FILTER)),
            run=request.value(OF_RUN),
            workflow=request.value(OF_WORKFLOW),
            assignee=request.value(ASSIGNEE),
        )
        limit, cursor = request.value(LIMIT), request.value(CURSOR)
        tasks, cursor = await self._inbox.list(where, limit=limit, cursor=cursor)
        return Reply(200, encode(TasksBody([_task_body(task) for task in tasks], cursor)))

    @route(
        "get_task", "GET", "/v1/tasks/{task}", "One question, with all that it takes to answer it", tag="human tasks",
        parameters=(TASK, TENANT), answers=(Answer(200, TaskBody, "The task."),), errors=(UnknownTask,),
    )  # fmt: skip
    async def get(self, request: ApiRequest) -> Reply:
        view = await self._inbox.get(request.value(TASK), tenant=request.value(TENANT))
        return Reply(200, encode(_view_body(view)))

    @route(
        "answer_task", "POST", "/v1/tasks/{task}/answer", "Answer, or give the result in the agent's place",
        tag="human tasks",
        parameters=(TASK, TENANT), body=ANSWER, answers=ACCEPTED, errors=(*ON_ANSWER, InvalidInput, UnknownAgent),
    )  # fmt: skip
    async def answer(self, request: ApiRequest) -> Reply:
        task, tenant = request.value(TASK), request.value(TENANT)
        body = await ANSWER.read(request)
        return _accepted(
            await self._inbox.answer(task, bytes(body.value), by=body.by, digest=body.digest, tenant=tenant)
        )

    @route(
        "refuse_task", "POST", "/v1/tasks/{task}/refuse", "Say that there will be no answer", tag="human tasks",
        parameters=(TASK, TENANT), body=REFUSE, answers=ACCEPTED, errors=ON_ANSWER,
    )  # fmt: skip
    async def refuse(self, request: ApiRequest) -> Reply:
        task, tenant = request.value(TASK), request.value(TENANT)
        body = await REFUSE.read(request)
        return _accepted(
            await self._inbox.refuse(task, reason=body.reason, by=body.by, digest=body.digest, tenant=tenant)
        )

    @route(
        "assign_task", "POST", "/v1/tasks/{task}/assign", "Give it to a person or group", tag="human tasks",
        parameters=(TASK, TENANT), body=ASSIGN, answers=ACCEPTED[:1], errors=ON_TASK,
    )  # fmt: skip
    async def assign(self, request: ApiRequest) -> Reply:
        task, tenant = request.value(TASK), request.value(TENANT)
        body = await ASSIGN.read(request)
        return Reply(202, encode(await self._inbox.assign(task, body.assignee, by=body.by, tenant=tenant)))


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
        assignee=task.assignee,
        question=task.question,
        detail=task.detail,
        opened_at=time(task.opened_at),
        closed_at=None if task.closed_at is None else time(task.closed_at),
    )


def _view_body(view: TaskView) -> TaskBody:
    body = _task_body(view.task)
    body.digest = view.digest
    body.output_schema = view.output_schema
    body.context = UNSET if view.context is None else view.context
    body.proposed = UNSET if view.proposed is None else view.proposed
    if view.agent:
        body.agent = view.agent
        body.input = UNSET if view.input is None else view.input
        body.attempts = [FailedAttemptBody(one.attempt, one.agent, time(one.at), one.failure) for one in view.attempts]
    body.expires_at = None if view.expires_at is None else time(view.expires_at)
    body.escalate_at = None if view.escalate_at is None else time(view.escalate_at)
    body.escalate_to = view.escalate_to
    body.escalations = [EscalationBody(one.assignee, time(one.at)) for one in view.escalations]
    body.handovers = [HandoverBody(one.assignee, time(one.at), one.by) for one in view.handovers]
    body.answer = None if view.answer is None else _answer_body(view.answer)
    return body


def _answer_body(given: GivenAnswer) -> AnswerGivenBody:
    output = UNSET if given.output is None else given.output
    return AnswerGivenBody(
        given.by, time(given.at), given.edited, output, UNSET if given.failure is None else given.failure
    )
