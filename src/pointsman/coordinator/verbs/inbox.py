"""The people's inbox, as a coordinator offers it (`ports.inbox.Inbox`).

What is asked is read from the run's log, what is said goes into its mailbox; the list only finds the way to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pointsman.agents.agent import Agent
from pointsman.agents.shape import check_answer, is_same
from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.asked import Told, told_of
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel import events as ev
from pointsman.kernel.asking import NAME_CHARS_MAX
from pointsman.kernel.errors import (
    AnswerMisplaced,
    CorruptLog,
    DuplicateMail,
    InvalidValue,
    RunEnded,
    TaskAnswered,
    TaskClosed,
    UnknownAgent,
    UnknownTask,
)
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, encode
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.inbox import GivenAnswer, Handover, TaskAccepted, TaskView
from pointsman.ports.mailbox import Mail

REASON_CHARS_MAX = 1_000


class _Input(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"null")


class CoordinatorInbox:
    """Implements `ports.inbox.Inbox` for one coordinator; any will do, whoever owns the run."""

    def __init__(self, coordinator: Coordinator, *, bytes_max: int = VALUE_BYTES_MAX) -> None:
        self._coordinator = coordinator
        self._store = coordinator.store
        self._runs = CoordinatorRuns(coordinator, bytes_max=bytes_max)
        self._bytes_max = bytes_max

    # -- reading --------------------------------------------------------------------------------------------------

    async def list(
        self, where: TaskFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[HumanTask], str | None]:
        return await self._store.human_tasks.list(where, limit=limit, cursor=cursor)

    async def get(self, task: str, *, tenant: str | None = None) -> TaskView:
        row = await self._row(task, tenant)
        told = await self._told(row)
        mail = await self._store.mailbox.find(row.run, mails.answer_key(task))
        if mail is not None and row.status == "open":
            # What is in the mailbox decides, though the run has not taken it in yet.
            row = msgspec.structs.replace(row, status=_status(mail), closed_at=mail.at)
        return TaskView(
            task=row, digest=told.digest, agent=told.agent, output_schema=self._schema(told),
            input=await self._input(row, told), attempts=told.attempts, context=told.context, proposed=told.proposed,
            expires_at=told.task.expires_at, escalate_at=told.task.escalate_at, escalate_to=told.task.escalate_to,
            escalations=[Handover(step.to, told.task.opened_at + step.after_ms) for step in told.task.ahead],
            handovers=told.handovers, answer=None if mail is None else _given(mail),
        )  # fmt: skip

    async def _row(self, task: str, tenant: str | None) -> HumanTask:
        row = await self._store.human_tasks.get(task)
        if row is None or (tenant is not None and row.tenant != tenant):
            raise UnknownTask(f"no human task has the id {task!r}; `GET /v1/tasks` lists those that there are")
        return row

    async def _told(self, row: HumanTask) -> Told:
        """Raises CorruptLog."""
        told = await told_of(self._store.log, row)
        if told is None:
            raise CorruptLog(f"run {row.run}: its log does not have the task {row.id}, which its list has")
        return told

    async def _input(self, row: HumanTask, told: Told) -> msgspec.Raw | None:
        if not told.agent:
            return None
        request = await self._runs.events(row.run, after=told.requested - 1, limit=1, inputs=True)
        return msgspec.json.decode(request[0].data, type=_Input).input

    def _schema(self, told: Told) -> dict[str, Any] | None:
        if told.agent:
            agent = self._coordinator.directory.agent(told.agent)
            return None if agent is None else agent.card.output_schema
        schema: dict[str, Any] = msgspec.json.decode(told.schema or b"{}")
        return schema

    # -- answering ------------------------------------------------------------------------------------------------

    async def answer(
        self, task: str, value: bytes, *, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        _check_person(by)
        row = await self._row(task, tenant)
        canonical = encode(decode(value, bytes_max=self._bytes_max), bytes_max=self._bytes_max)
        told = await self._told(row)
        edited = told.proposed is not None and not is_same(bytes(told.proposed), canonical)
        body = mails.AnswerMail(row.call, task, output=msgspec.Raw(canonical), by=by, edited=edited, digest=told.digest)
        repeated = await self._before(row, body)
        if repeated is not None:
            return repeated
        _check_digest(told, digest)
        if told.agent:
            self._agent(told.agent).signature.check_output(canonical)
        else:
            check_answer(bytes(told.schema), canonical)
        return await self._post(row, body)

    def _agent(self, name: str) -> Agent:
        agent = self._coordinator.directory.agent(name)
        if agent is None:
            raise UnknownAgent(
                f"no agent is named {name!r} here, so nobody knows what its result looks like: register it again, "
                "ask a coordinator that has it, or refuse"
            )
        return agent

    async def refuse(
        self, task: str, *, reason: str, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        _check_person(by)
        encode(reason)
        if len(reason) > REASON_CHARS_MAX:
            raise InvalidValue(f"the reason has {len(reason)} characters; the limit is {REASON_CHARS_MAX}")
        row = await self._row(task, tenant)
        told = await self._told(row)
        failure = ev.Failure("not_answered", f"{by} refused: {reason}".removesuffix(": "), retryable=False)
        body = mails.AnswerMail(row.call, task, failure=failure, by=by, reason=reason, digest=told.digest)
        repeated = await self._before(row, body)
        if repeated is not None:
            return repeated
        _check_digest(told, digest)
        return await self._post(row, body)

    async def assign(self, task: str, assignee: str, *, by: str, tenant: str | None = None) -> TaskAccepted:
        _check_person(by)
        if assignee:
            _check_person(assignee)
        row = await self._row(task, tenant)
        await self._before(row, None)
        body = mails.encode(mails.AssignmentMail(row.call, task, assignee, by))
        key = mails.assignment_key(task, self._coordinator.ids.nonce())
        try:
            await self._store.mailbox.post(row.run, key, mails.ASSIGNMENT, body)
        except RunEnded as error:
            raise _ended(row) from error
        self._coordinator.hint(row.run)
        return TaskAccepted(row.id, row.run)

    async def _before(self, row: HumanTask, body: mails.AnswerMail | None) -> TaskAccepted | None:
        """What is in the mailbox already, and makes of this answer a repetition; None: nothing is, and the task is
        open.

        Raises: TaskAnswered, TaskClosed.
        """
        mail = await self._store.mailbox.find(row.run, mails.answer_key(row.id))
        if mail is None:
            if row.status == "open":
                return None
            raise TaskClosed(f"task {row.id} is {row.status}: run {row.run} went on, and takes no answer any more")
        if mail.kind == mails.EXPIRY:
            raise TaskAnswered(f"task {row.id} expired at {_time(mail.at)}: nobody had answered it")
        if body is not None and mail.body == mails.encode(body):
            return TaskAccepted(row.id, row.run, repeated=True, edited=body.edited)
        given = _given(mail)
        what = "refused" if given.failure is not None else "answered"
        raise TaskAnswered(f"{given.by} {what} task {row.id} at {_time(given.at)}; the first answer counts")

    async def _post(self, row: HumanTask, body: mails.AnswerMail) -> TaskAccepted:
        try:
            await self._store.mailbox.post(row.run, mails.answer_key(row.id), mails.ANSWER, mails.encode(body))
        except (DuplicateMail, RunEnded) as error:
            # Somebody was faster: with another answer, or with the run's end.
            before = await self._before(row, body)
            if before is None:
                raise _ended(row) from error
            return before
        self._coordinator.hint(row.run)
        return TaskAccepted(row.id, row.run, edited=body.edited)


def _ended(row: HumanTask) -> TaskClosed:
    return TaskClosed(f"run {row.run} has ended, and takes no answer to task {row.id} any more")


def _status(mail: Mail) -> str:
    if mail.kind == mails.EXPIRY:
        return "expired"
    return "answered" if mails.answer_of(mail).failure is None else "refused"


def _given(mail: Mail) -> GivenAnswer:
    if mail.kind == mails.EXPIRY:
        return GivenAnswer("", mail.at, failure=ev.Failure("expired", "nobody answered in time", retryable=False))
    answer = mails.answer_of(mail)
    output = answer.output if answer.failure is None else None
    return GivenAnswer(answer.by, mail.at, output, answer.failure, answer.edited)


def _check_person(by: str) -> None:
    """Raises: InvalidValue."""
    encode(by)
    if not by.strip() or len(by) > NAME_CHARS_MAX:
        raise InvalidValue(f"{by!r}: say who it is, in 1 to {NAME_CHARS_MAX} characters")


def _check_digest(told: Told, digest: str | None) -> None:
    """Raises: AnswerMisplaced."""
    if digest is not None and digest != told.digest:
        raise AnswerMisplaced(
            f"the answer is to what has the digest {digest[:64]!r}, and task {told.task.id} shows {told.digest!r}: "
            "look at it again, and answer what is asked"
        )


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
