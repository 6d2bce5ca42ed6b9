"""`run.ask`, by which a body asks a person, and the request that it makes (`asking.py` explains the words)."""

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
    """An open question, and how to read its answer."""

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
        """Ask a person, and wait for the answer. The run is parked meanwhile, whether for a minute or a year.

        Args:
            question: for people, 1,000 characters at most.
            context: any JSON or model that helps them to answer.
            proposed: an answer that they may accept as it is, or edit.
            schema: what an answer must be: a type, or a JSON Schema as a dict. Without it, the type of the proposed
                answer; any JSON if nothing is proposed either.
            assignee: a person or a group, by any name that people know them by.
            expires_in: seconds until the question expires; the answer is then `expired`.
            until: the same as a point in time: a datetime with a time zone, or seconds since 1970; by the database's
                clock.
            escalate_to, escalate_in: who is asked instead if there is no answer after this many seconds.
            escalate: the same in several steps, each (seconds from the beginning, who is asked then).
            key: a call id of your own.

        Raises:
            InvalidValue, InvalidInput: an argument is not allowed; the message says what to change. InvalidInput also
                if a person's answer fits the schema but not the type (a validator of your own refused it): ask again.
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
        """Like `ask`, but returns a handle for the answer at once. Cancelling the handle closes the question."""
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
        """Check in a replay that the code asks the recorded question: the answer to one question must not count as the
        answer to another.
        """
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
    """The data as a field of an event; an empty one is not written."""
    return msgspec.Raw(data) if data else ev.ABSENT


def expired(tasks: Mapping[str, OpenTask], now: int) -> list[OpenTask]:
    """The tasks that have expired. The run's mailbox decides whether an answer came first."""
    return [task for task in tasks.values() if task.expires_at is not None and task.expires_at <= now]


def escalations(tasks: Mapping[str, OpenTask], now: int) -> list[ev.HumanTaskEscalated]:
    """Events for the tasks that are due to be escalated."""
    return [
        ev.HumanTaskEscalated(
            call=call, task=task.id, assignee=task.escalate_to, before=task.assignee, step=task.escalated + 1
        )
        for call, task in tasks.items()
        if task.escalate_at is not None and task.escalate_at <= now and (task.expires_at or now + 1) > now
    ]


def answer_of(handle: AskHandle, event: ev.HumanTaskAnswered | ev.HumanTaskExpired, at: int) -> Answer[Any]:
    """The answer that the body gets. Raises InvalidInput: it is not of the type that the body asked for."""
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
