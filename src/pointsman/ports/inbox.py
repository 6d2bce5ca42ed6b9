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
    """What a person said. `output` or `failure` is there; `at` in ms by the database's clock."""

    by: str
    at: int
    output: msgspec.Raw | None = None
    failure: Failure | None = None


class TaskView(msgspec.Struct, frozen=True):
    """A task with all that a person needs in order to answer it.

    Attributes:
        task: its row; `status` is answered from the moment in which an answer is durable.
        agent: who was asked first; the answer must be what that agent would have given.
        output_schema: of that, JSON Schema; None: this coordinator does not know the agent.
        input: what the agent was asked, as recorded.
        attempts: what was tried before, in order.
    """

    task: HumanTask
    agent: str
    output_schema: dict[str, Any] | None
    input: msgspec.Raw
    attempts: Sequence[FailedAttempt] = ()
    answer: GivenAnswer | None = None


class TaskAccepted(msgspec.Struct, frozen=True):
    """An answer that is durable. `repeated`: the same person had given the same one before."""

    task: str
    run: str
    repeated: bool = False


class Inbox(Protocol):
    """Every method raises `StoreUnavailable` when the store can't be reached. `tenant`: whom the caller speaks for;
    another tenant's task does not exist then."""

    async def list(
        self, where: TaskFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[HumanTask], str | None]:
        """Oldest first, and a cursor for the next page. Raises: InvalidValue: a cursor that nobody gave."""
        ...

    async def get(self, task: str, *, tenant: str | None = None) -> TaskView:
        """Raises: UnknownTask."""
        ...

    async def answer(self, task: str, value: bytes, *, by: str, tenant: str | None = None) -> TaskAccepted:
        """Give the result of the call, as JSON, in the place of the agent that was asked. Twice the same is once.

        Raises:
            UnknownTask.
            TaskAnswered: somebody gave another answer first.
            TaskClosed: the run has ended, or went on without an answer.
            UnknownAgent: nobody here knows what the agent's results look like.
            InvalidInput: it is not what that agent would give; the message says where. InvalidValue, ValueTooLarge.
        """
        ...

    async def decline(self, task: str, *, reason: str, by: str, tenant: str | None = None) -> TaskAccepted:
        """Say that there will be no answer: the call goes on with its default, or fails with `not_answered`.

        Raises: UnknownTask, TaskAnswered, TaskClosed, InvalidValue.
        """
        ...
