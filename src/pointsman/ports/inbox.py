"""The inbox: what people are asked, and what they answer. What a coordinator offers to its HTTP API.

The list is a read model (`ports/human_tasks.py`); an answer is a mail of the run, and there the first one wins. So a
task may still be listed as open for the moment in which its run takes the answer in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from pointsman.kernel.events import Failure
from pointsman.ports.human_tasks import HumanTask, TaskFilter


class FailedAttempt(msgspec.Struct, frozen=True):
    """One try of an agent that came to nothing. `at`: when it ended, ms by the database's clock."""

    attempt: int
    agent: str
    failure: Failure
    at: int


class GivenAnswer(msgspec.Struct, frozen=True):
    """What a person said. `output` or `failure` is there; `at` in ms by the database's clock. `edited`: it is another
    answer than the proposed one. By nobody: it expired."""

    by: str
    at: int
    output: msgspec.Raw | None = None
    failure: Failure | None = None
    edited: bool = False


class Handover(msgspec.Struct, frozen=True):
    """A task was given to somebody else: by a person, or by time (`by` empty: it was escalated)."""

    assignee: str
    at: int
    by: str = ""


class TaskView(msgspec.Struct, frozen=True):
    """A task with all that a person needs in order to answer it.

    Attributes:
        task: its row; `status` and `assignee` are as of the last mail that is durable.
        digest: of what is shown here; an answer says it again.
        agent: who was asked first; the answer must be what that agent would have given. Empty: the workflow asks.
        output_schema: of an answer, JSON Schema; None: this coordinator does not know the agent.
        input: what the agent was asked, as recorded.
        attempts: what was tried before, in order.
        context, proposed: what the workflow shows, and the answer that it proposes.
        expires_at, escalate_at: ms by the database's clock. escalate_to: who is asked then. escalations: to whom it
            will be given if nobody answers, in order, that one and those after them.
        handovers: to whom it was given, in order.
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
    """What a person said, which is durable. `repeated`: the same was said by the same before. `edited`: the answer is
    another than the proposed one."""

    task: str
    run: str
    repeated: bool = False
    edited: bool = False


class Inbox(Protocol):
    """Every method raises `StoreUnavailable` when the store can't be reached. `tenant`: whom the caller speaks for;
    another tenant's task does not exist then."""

    async def list(
        self, where: TaskFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[HumanTask], str | None]:
        """Oldest first, and a cursor for the next page. Raises: InvalidCursor."""
        ...

    async def get(self, task: str, *, tenant: str | None = None) -> TaskView:
        """Raises: UnknownTask."""
        ...

    async def answer(
        self, task: str, value: bytes, *, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        """Answer a workflow's question, or give the result of a call in the place of the agent that was asked. Twice
        the same is once.

        Args:
            value: JSON.
            digest: of what the person saw; None: whatever is asked.

        Raises:
            UnknownTask.
            TaskAnswered: somebody said something first; who and when.
            TaskClosed: the run has ended, or went on without an answer.
            AnswerMisplaced: the digest is not that of the question.
            UnknownAgent: nobody here knows what the agent's results look like.
            InvalidInput: it does not fit; the message says where. InvalidValue, ValueTooLarge.
        """
        ...

    async def refuse(
        self, task: str, *, reason: str, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        """Say that there will be no answer: a workflow's question is refused; a call goes on with its default, or fails
        with `not_answered`.

        Raises: UnknownTask, TaskAnswered, TaskClosed, AnswerMisplaced, InvalidValue.
        """
        ...

    async def assign(self, task: str, assignee: str, *, by: str, tenant: str | None = None) -> TaskAccepted:
        """Give an open task to a person or group; empty: to whoever looks. The last word counts.

        Raises: UnknownTask, TaskAnswered, TaskClosed, InvalidValue.
        """
        ...
