"""The inbox: what people are asked and what they answer. What a coordinator offers to its HTTP API.

The list is a read model (`ports/human_tasks.py`). An answer is a mail of the run, and the first one counts. So a task
may still be listed as open for the moment that its run needs to take the answer in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from pointsman.kernel.events import Failure
from pointsman.ports.human_tasks import HumanTask, TaskFilter


class FailedAttempt(msgspec.Struct, frozen=True):
    """A failed attempt of an agent. `at`: when it ended, ms by the database's clock."""

    attempt: int
    agent: str
    failure: Failure
    at: int


class GivenAnswer(msgspec.Struct, frozen=True):
    """The answer of a person: `output` or `failure` is set; `at` in ms by the database's clock. `edited`: it differs
    from the proposed answer. Without a person, the task expired.
    """

    by: str
    at: int
    output: msgspec.Raw | None = None
    failure: Failure | None = None
    edited: bool = False


class Handover(msgspec.Struct, frozen=True):
    """The reassignment of a task, by a person or by escalation (`by` is then empty)."""

    assignee: str
    at: int
    by: str = ""


class TaskView(msgspec.Struct, frozen=True):
    """A task, with everything that a person needs in order to answer it.

    Attributes:
        task: its row; `status` and `assignee` are as of the last durable mail.
        digest: of what is shown here; an answer may repeat it, to say what it answers.
        agent: the agent that was called first; the answer must be what that agent could have given. Empty: the workflow
            asks.
        output_schema: of an answer, JSON Schema; None: this coordinator does not know the agent.
        input: the recorded input of the agent's call.
        attempts: what was tried before, in order.
        context, proposed: the context that the workflow shows, and the answer that it proposes.
        expires_at, escalate_at: ms by the database's clock. escalate_to: who is asked then. escalations: everyone who
            will be asked in turn if nobody answers, `escalate_to` included.
        handovers: the reassignments so far, in order.
    """

    task: HumanTask
    digest: str
    agent: str
    output_schema: dict[str, Any] | None
    input: msgspec.Raw | None = None
    attempts: Sequence[FailedAttempt] = ()
    context: msgspec.Raw | None = None
    proposed: msgspec.Raw | None = None
    expires_at: int | None = None
    escalate_at: int | None = None
    escalate_to: str = ""
    escalations: Sequence[Handover] = ()
    handovers: Sequence[Handover] = ()
    answer: GivenAnswer | None = None


class TaskAccepted(msgspec.Struct, frozen=True):
    """A person's answer, now durable. `repeated`: the same person had given the same answer before. `edited`: it
    differs from the proposed answer.
    """

    task: str
    run: str
    repeated: bool = False
    edited: bool = False


class Inbox(Protocol):
    """The operations on human tasks. Every method raises `StoreUnavailable` if the store can't be reached.

    `tenant`: the tenant that the caller acts for; tasks of other tenants do not exist for it.
    """

    async def list(
        self, where: TaskFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[HumanTask], str | None]:
        """List tasks, oldest first, with a cursor for the next page. Raises InvalidCursor for an unknown cursor."""
        ...

    async def get(self, task: str, *, tenant: str | None = None) -> TaskView:
        """One task. Raises UnknownTask."""
        ...

    async def answer(
        self, task: str, value: bytes, *, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        """Answer a workflow's question, or give the result of a call in place of its agent. Idempotent: the same answer
        twice counts once.

        Args:
            value: JSON.
            digest: of what the person saw; None: do not check it.

        Raises:
            UnknownTask.
            TaskAnswered: somebody answered first; the error says who and when.
            TaskClosed: the run has ended, or went on without an answer.
            AnswerMisplaced: the digest is not that of the question.
            UnknownAgent: no coordinator here knows what the agent's results look like.
            InvalidInput: the answer does not fit the schema; the message says where. InvalidValue, ValueTooLarge.
        """
        ...

    async def refuse(
        self, task: str, *, reason: str, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        """Refuse to answer: a workflow's question is refused; a call goes on with its default, or fails with
        `not_answered`.

        Raises: UnknownTask, TaskAnswered, TaskClosed, AnswerMisplaced, InvalidValue.
        """
        ...

    async def assign(self, task: str, assignee: str, *, by: str, tenant: str | None = None) -> TaskAccepted:
        """Assign an open task to a person or group, or with an empty assignee to nobody in particular. The last
        assignment counts.

        Raises: UnknownTask, TaskAnswered, TaskClosed, InvalidValue.
        """
        ...
