"""The people's inbox, as a coordinator offers it (`ports.inbox.Inbox`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from pointsman.agents.agent import Agent
from pointsman.coordinator import mail as mails
from pointsman.coordinator.runs import CoordinatorRuns
from pointsman.coordinator.service import Coordinator
from pointsman.kernel import events as ev
from pointsman.kernel.errors import (
    CorruptLog,
    DuplicateMail,
    InvalidValue,
    RunEnded,
    TaskAnswered,
    TaskClosed,
    UnknownAgent,
    UnknownTask,
)
from pointsman.kernel.upcast import read_event
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, encode
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.inbox import FailedAttempt, GivenAnswer, TaskAccepted, TaskView
from pointsman.ports.mailbox import Mail

PAGE = 500
NAME_CHARS_MAX = 128
REASON_CHARS_MAX = 1_000


class _Detail(msgspec.Struct):
    agent: str = ""


class _Input(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw(b"null")


class _Told(msgspec.Struct):
    """What the log says of a task. `requested`: the sequence of its call's request."""

    agent: str
    requested: int
    attempts: list[FailedAttempt]


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
        request = await self._runs.events(row.run, after=told.requested - 1, limit=1, inputs=True)
        mail = await self._store.mailbox.find(row.run, mails.answer_key(task))
        if mail is not None and row.status == "open":
            # The answer is durable and decides, though the run has not taken it in yet.
            row = msgspec.structs.replace(row, status="answered", closed_at=mail.at)
        agent = self._coordinator.directory.agent(told.agent)
        return TaskView(
            row, told.agent, _schema(agent), msgspec.json.decode(request[0].data, type=_Input).input, told.attempts,
            None if mail is None else _given(mail),
        )  # fmt: skip

    async def _row(self, task: str, tenant: str | None) -> HumanTask:
        row = await self._store.human_tasks.get(task)
        if row is None or (tenant is not None and row.tenant != tenant):
            raise UnknownTask(f"no human task has the id {task!r}; `GET /v1/tasks` lists those that there are")
        return row

    async def _told(self, row: HumanTask) -> _Told:
        """Reads the run's log up to the event that opened the task. Raises: CorruptLog."""
        told: _Told | None = None
        holder, after = "", 0
        while recorded := await self._store.log.read(row.run, after=after, limit=PAGE):
            for one in recorded:
                event = read_event(one) if one.type in _TELLING else None
                if getattr(event, "call", None) != row.call:
                    continue
                if isinstance(event, ev.CallRequested):
                    holder, told = event.target, _Told(event.target, one.sequence, [])
                elif isinstance(event, ev.CallReassigned):
                    holder = event.agent
                elif isinstance(event, ev.AttemptFailed) and told is not None:
                    told.attempts.append(FailedAttempt(event.attempt, holder, event.failure, one.at))
                elif isinstance(event, ev.HumanTaskOpened) and event.task == row.id and told is not None:
                    return told
            after = recorded[-1].sequence
        raise CorruptLog(f"run {row.run}: its log does not have the task {row.id}, which its list has")

    # -- answering ------------------------------------------------------------------------------------------------

    async def answer(self, task: str, value: bytes, *, by: str, tenant: str | None = None) -> TaskAccepted:
        _check_person(by)
        row = await self._row(task, tenant)
        canonical = encode(decode(value, bytes_max=self._bytes_max), bytes_max=self._bytes_max)
        body = mails.AnswerMail(row.call, task, output=msgspec.Raw(canonical), by=by)
        repeated = await self._before(row, body)
        if repeated is not None:
            return repeated
        asked = msgspec.json.decode(row.detail, type=_Detail).agent
        agent = self._coordinator.directory.agent(asked)
        if agent is None:
            raise UnknownAgent(
                f"no agent is named {asked!r} here, so nobody knows what its result looks like: register it again, "
                "ask a coordinator that has it, or decline"
            )
        agent.signature.check_output(canonical)
        return await self._post(row, body)

    async def decline(self, task: str, *, reason: str, by: str, tenant: str | None = None) -> TaskAccepted:
        _check_person(by)
        encode(reason)
        if len(reason) > REASON_CHARS_MAX:
            raise InvalidValue(f"the reason has {len(reason)} characters; the limit is {REASON_CHARS_MAX}")
        row = await self._row(task, tenant)
        failure = ev.Failure("not_answered", f"{by} declined: {reason}".removesuffix(": "), retryable=False)
        body = mails.AnswerMail(row.call, task, failure=failure, by=by)
        return await self._before(row, body) or await self._post(row, body)

    async def _before(self, row: HumanTask, body: mails.AnswerMail) -> TaskAccepted | None:
        """What an answer that is there already makes of this one; None: there is none, and the task is open.

        Raises: TaskAnswered, TaskClosed.
        """
        mail = await self._store.mailbox.find(row.run, mails.answer_key(row.id))
        if mail is None:
            if row.status == "open":
                return None
            raise TaskClosed(f"task {row.id} is {row.status}: run {row.run} went on, and takes no answer any more")
        if mail.body == mails.encode(body):
            return TaskAccepted(row.id, row.run, repeated=True)
        given = _given(mail)
        what = "declined" if given.failure is not None else "answered"
        raise TaskAnswered(f"{given.by} {what} task {row.id} at {_time(given.at)}; the first answer counts")

    async def _post(self, row: HumanTask, body: mails.AnswerMail) -> TaskAccepted:
        try:
            await self._store.mailbox.post(row.run, mails.answer_key(row.id), mails.ANSWER, mails.encode(body))
        except (DuplicateMail, RunEnded) as error:
            # Somebody was faster: with another answer, or with the run's end.
            before = await self._before(row, body)
            if before is None:
                raise TaskClosed(f"run {row.run} has ended, and takes no answer to task {row.id} any more") from error
            return before
        self._coordinator.hint(row.run)
        return TaskAccepted(row.id, row.run)


_TELLING = frozenset(
    cls.__name__ for cls in (ev.CallRequested, ev.CallReassigned, ev.AttemptFailed, ev.HumanTaskOpened)
)


def _given(mail: Mail) -> GivenAnswer:
    answer = mails.answer_of(mail)
    return GivenAnswer(answer.by, mail.at, answer.output if answer.failure is None else None, answer.failure)


def _schema(agent: Agent | None) -> dict[str, Any] | None:
    return None if agent is None else agent.card.output_schema


def _check_person(by: str) -> None:
    """Raises: InvalidValue."""
    encode(by)
    if not by.strip() or len(by) > NAME_CHARS_MAX:
        raise InvalidValue(f"by={by!r}: say who answers, in 1 to {NAME_CHARS_MAX} characters")


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
