"""`run.ask`: a body asks a person. The verb, and the request that it makes (see `asking.py` for the words)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import (
    Answer,
    Moment,
    OpenTask,
    Outcome,
    Steps,
    Terms,
    ask_digest,
    check_question,
    task_id,
    terms_of,
)
from pointsman.kernel.errors import InvalidInput, NonDeterministicWorkflow
from pointsman.kernel.observing import Observing
from pointsman.kernel.program import Shape
from pointsman.kernel.strands import Handle
from pointsman.kernel.values import encode
from pointsman.kernel.wanted import NO_DEFAULT

if TYPE_CHECKING:
    from pointsman.kernel.history import History
    from pointsman.kernel.requests import Requests


class AskHandle(Handle[Answer[Any]], eq=False, kw_only=True):
    """A question that is open, and how to read its answer."""

    shape: Shape
    has_proposal: bool


class AsksPeople:
    """The part of `Run` that asks people."""

    __slots__ = ()
    _requests: Requests

    if TYPE_CHECKING:

        def _call_id(self, name: str, key: str | None) -> str: ...

    async def ask(
        self, question: str, *, context: Any = None, proposed: Any = NO_DEFAULT, schema: Any = None,
        assignee: str = "", expires_in: float | None = None, until: Moment | float | None = None,
        escalate_to: str = "", escalate_in: float | None = None, escalate: Steps = (), key: str | None = None,
    ) -> Answer[Any]:  # fmt: skip
        """Ask a person, and wait for what comes of it. The run is parked meanwhile, for a minute or a year.

        Args:
            question: for people, 1,000 characters at most.
            context: any JSON or model that helps them to answer.
            proposed: the answer that they may accept as it is, or edit.
            schema: what an answer must be: a type, or a JSON Schema as a dict. The proposed answer's type without, and
                any JSON where nothing is proposed.
            assignee: a person or a group, by any name that people know them by.
            expires_in: seconds until the answer is `expired`. until: the same, as a moment: a datetime with a time
                zone, or seconds since 1970; by the database's clock.
            escalate_to, escalate_in: who is asked instead when there is no answer after so many seconds. escalate: the
                same in several steps, each (seconds from the beginning, who is asked then).
            key: a call id of one's own.

        Raises:
            InvalidValue, InvalidInput: with what to change; the second also where a person's answer fits the schema and
                not the type (a validator of your own refused it): ask again.
        """
        return await self.start_ask(
            question, context=context, proposed=proposed, schema=schema, assignee=assignee, expires_in=expires_in,
            until=until, escalate_to=escalate_to, escalate_in=escalate_in, escalate=escalate, key=key,
        )  # fmt: skip

    def start_ask(
        self, question: str, *, context: Any = None, proposed: Any = NO_DEFAULT, schema: Any = None,
        assignee: str = "", expires_in: float | None = None, until: Moment | float | None = None,
        escalate_to: str = "", escalate_in: float | None = None, escalate: Steps = (), key: str | None = None,
    ) -> Handle[Answer[Any]]:  # fmt: skip
        """Like `ask`, without waiting: the handle stands for the answer. Cancel it, and the question is closed."""
        check_question(question)
        terms = terms_of(assignee, expires_in, until, escalate_to, escalate_in, escalate)
        return self._requests.ask(self._call_id("ask", key), question, context, proposed, schema, terms)


class Asking(Observing):
    """The part of `Requests` that asks people."""

    history: History | None

    def ask(
        self, call: str, question: str, context: Any, proposed: Any, schema: Any, terms: Terms
    ) -> Handle[Answer[Any]]:
        self._check_room()
        has_proposal = proposed is not NO_DEFAULT
        if schema is None and has_proposal and proposed is not None:
            schema = type(proposed)
        shape = self._directory.shape(schema)
        handle = self._enter(AskHandle(self, call, "person", shape=shape, has_proposal=has_proposal))
        context_json = encode(context) if context is not None else b""
        proposed_json = shape.encode_output(proposed) if has_proposal else b""
        recorded = self._take(ev.HumanTaskRequested, call)
        if isinstance(recorded, ev.HumanTaskRequested):
            self._compare_question(recorded, question, context_json, proposed_json)
            return handle
        seen = ask_digest(question, context_json, proposed_json, shape.schema)
        key = self._state.key_of(call, None if self.history is None else self.history.redrives)
        event = ev.HumanTaskRequested(
            call=call, task=task_id(key, seen), question=question, digest=seen, terms=terms,
            context=_raw(context_json), proposed=_raw(proposed_json), schema=_raw(shape.schema),
        )  # fmt: skip
        self.produce(event, self.now)
        return handle

    def _compare_question(
        self, recorded: ev.HumanTaskRequested, question: str, context: bytes, proposed: bytes
    ) -> None:
        """In replay: the code must ask what the log says was asked. The answer to one question must not count as the
        answer to another."""
        was = (recorded.question, bytes(recorded.context), bytes(recorded.proposed))
        if was == (question, context, proposed):
            return
        assert self.history is not None
        if self.history.has_outcome(recorded.call):
            self.history.warnings.append(
                f"{recorded.call}: the code now asks another question; the recorded answer stands"
            )
            return
        raise self._break(
            NonDeterministicWorkflow(
                f"the open question {recorded.question!r} ({recorded.call})",
                f"another question, context or proposed answer for it: {question!r}",
            )
        )


def _raw(data: bytes) -> msgspec.Raw:
    """As a field of an event; an empty one is not written."""
    return msgspec.Raw(data) if data else ev.ABSENT


def expired(tasks: Mapping[str, OpenTask], now: int) -> list[OpenTask]:
    """The tasks whose time is over. The run's mailbox decides whether an answer came first."""
    return [task for task in tasks.values() if task.expires_at is not None and task.expires_at <= now]


def escalations(tasks: Mapping[str, OpenTask], now: int) -> list[ev.HumanTaskEscalated]:
    """For the tasks that go to somebody else now."""
    return [
        ev.HumanTaskEscalated(
            call=call, task=task.id, assignee=task.escalate_to, before=task.assignee, step=task.escalated + 1
        )
        for call, task in tasks.items()
        if task.escalate_at is not None and task.escalate_at <= now and (task.expires_at or now + 1) > now
    ]


def answer_of(handle: AskHandle, event: ev.HumanTaskAnswered | ev.HumanTaskExpired, at: int) -> Answer[Any]:
    """What the body gets. Raises InvalidInput: the answer is not of the type that the body asked for."""
    if isinstance(event, ev.HumanTaskExpired):
        return Answer("expired", None, by="", at=(event.expired_at or at) / 1000, reason="", call=handle.call)
    when = (event.answered_at or at) / 1000
    if event.failure is not None:
        reason = event.reason or event.failure.message
        return Answer("refused", None, by=event.by, at=when, reason=reason, call=handle.call)
    try:
        value = handle.shape.decode_output(bytes(event.output))
    except InvalidInput as error:
        raise InvalidInput(f"the answer of {event.by} to {handle.call}: {error}") from error
    outcome: Outcome = "answered"
    if handle.has_proposal:
        outcome = "edited" if event.edited else "accepted"
    return Answer(outcome, value, by=event.by, at=when, reason="", call=handle.call)
