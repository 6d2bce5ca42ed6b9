"""Questions to people: what the log keeps of a question, and what a body passes and gets when it asks one.

A human task comes about in two ways: the body asks (`run.ask`), or no agent is left for a call (`run.call(person=)`).
From there on both are the same: one open task, and the first answer counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from pointsman.kernel.errors import InvalidValue, NotAnswered
from pointsman.kernel.values import check, digest

T = TypeVar("T")

QUESTION_CHARS_MAX = 1_000
NAME_CHARS_MAX = 128
"""Of a person or group."""
SECONDS_MAX = 1e10
"""Three hundred years: no time limit or timer is longer."""

Outcome = Literal["answered", "accepted", "edited", "refused", "expired"]
Steps = Sequence[tuple[float, str]]
"""Pairs of (seconds from the beginning, who is asked then)."""


class Moment(Protocol):
    """A `datetime`, as far as the kernel needs one; it has no clock and no calendar."""

    @property
    def tzinfo(self) -> object: ...

    def timestamp(self) -> float: ...


class Escalation(msgspec.Struct, frozen=True):
    """Without an answer `after_ms` after the task was opened, `to` is asked."""

    after_ms: int
    to: str


class Terms(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who is asked, and until when. Durations are in ms from the time at which the task is opened.

    Attributes:
        assignee: a person or a group; empty: nobody in particular.
        expires_ms: the question expires after so long without an answer. expires_at: it expires at that time (ms, the
            database's clock).
        escalate_to, escalate_ms: who is asked instead after so long without an answer. then: who is asked after that.
    """

    assignee: str = ""
    expires_ms: int | None = None
    escalate_to: str = ""
    escalate_ms: int | None = None
    expires_at: int | None = None
    then: tuple[Escalation, ...] = ()

    @property
    def escalations(self) -> tuple[Escalation, ...]:
        """All escalations, the earliest first."""
        if self.escalate_ms is None:
            return ()
        return Escalation(self.escalate_ms, self.escalate_to), *self.then


ANYBODY = Terms()


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the request of a call says about the person to ask when no agent is left."""

    question: str
    terms: Terms = ANYBODY


class OpenTask(msgspec.Struct):
    """A human task that waits for an answer, as part of the run's state. Times are in ms by the database's clock.

    Attributes:
        asked: the task in which the body first asked this question; None: the task is the end of a failure chain.
        requested: the sequence of the request of its call.
        escalated: how many times it has been escalated. escalate_at, escalate_to: the next escalation.
    """

    id: str
    call: str
    question: str
    digest: str
    terms: Terms
    opened_at: int
    asked: str | None = None
    assignee: str = ""
    expires_at: int | None = None
    escalate_at: int | None = None
    requested: int = 0
    escalated: int = 0

    @property
    def escalate_to(self) -> str:
        return self.ahead[0].to if self.ahead else ""

    @property
    def ahead(self) -> tuple[Escalation, ...]:
        """Who will be asked, in order, if nobody answers."""
        return self.terms.escalations[self.escalated :]

    def go_to(self, assignee: str) -> None:
        """Escalate the task: `assignee` is asked now, and the escalation after that becomes the next."""
        self.assignee = assignee
        self.escalated += 1
        self.escalate_at = self.opened_at + self.ahead[0].after_ms if self.ahead else None

    def next_due(self) -> int | None:
        """When the task next expires or escalates."""
        if self.expires_at is None or self.escalate_at is None:
            return self.expires_at if self.escalate_at is None else self.escalate_at
        return min(self.expires_at, self.escalate_at)


def open_task(
    task: str, call: str, question: str, seen: str, terms: Terms, at: int, *, asked: str | None = None,
    requested: int = 0,
) -> OpenTask:  # fmt: skip
    """A task that is opened at `at`. `seen`: the digest of what people see of it."""
    found = OpenTask(task, call, question, seen, terms, at, asked, terms.assignee, requested=requested)
    if terms.expires_ms is not None:
        found.expires_at = at + terms.expires_ms
    elif terms.expires_at is not None:
        found.expires_at = terms.expires_at
    if terms.escalate_ms is not None:
        found.escalate_at = at + terms.escalate_ms
    return found


def task_id(key: str, seen: str, redrive: int = 0) -> str:
    """The id of a task: different for each call, each content, and each redrive that asks again.

    Args:
        key: of the call, which holds the run's generation. Of a body's question that a redrive asks again: the id of
            the task in which it was first asked.
        seen: the digest of what people see of the task.
        redrive: its number; 0: none asked again.
    """
    again = f" redriven {redrive}" if redrive else ""
    return "t" + digest(f"{key} {seen}{again}".encode())


class Question:
    """What to ask a person when no agent is left for a call: `run.call(agent, x, person=Question(...))`.

    Args:
        text: shown to people.
        assignee: a person or a group, by any name that people know them by. Default: nobody in particular.
        expires_in: seconds; without an answer by then, the call goes on as if the person had refused.
        until: the same as a point in time: a datetime with a time zone, or seconds since 1970.
        escalate_to, escalate_in: who is asked instead after so many seconds without an answer.
        escalate: the same in several steps, each (seconds from the beginning, who is asked then).

    Raises:
        InvalidValue: the message says what to change.
    """

    __slots__ = ("person",)

    def __init__(
        self, text: str, *, assignee: str = "", expires_in: float | None = None, until: Moment | float | None = None,
        escalate_to: str = "", escalate_in: float | None = None, escalate: Steps = (),
    ) -> None:  # fmt: skip
        check_question(text)
        self.person = Person(text, terms_of(assignee, expires_in, until, escalate_to, escalate_in, escalate))


def terms_of(
    assignee: str, expires_in: float | None, until: Moment | float | None, escalate_to: str,
    escalate_in: float | None, escalate: Steps,
) -> Terms:  # fmt: skip
    """Check the arguments of a question. Raises InvalidValue."""
    if bool(escalate_to) != (escalate_in is not None):
        raise InvalidValue("escalate_to= (who is asked then) and escalate_in= (after how many seconds) go together")
    if escalate_to and escalate:
        raise InvalidValue("escalate= has all the steps: escalate_to= and escalate_in= are for one alone")
    if expires_in is not None and until is not None:
        raise InvalidValue("expires_in= (so many seconds) or until= (a moment), not both")
    steps = [(escalate_in, escalate_to)] if escalate_in is not None else _steps(escalate)
    for name in (assignee, *(to for _, to in steps)):
        check(name)
        if len(name) > NAME_CHARS_MAX or (name and not name.strip()):
            raise InvalidValue(f"{name!r}: a person or group is named in 1 to {NAME_CHARS_MAX} characters")
    expires_ms, expires_at = _ms("expires_in", expires_in), _moment_ms(until)
    found = [Escalation(_ms_of("escalate_in" if escalate_to else "escalate", after), to) for after, to in steps]
    if any(after.after_ms <= before.after_ms for before, after in pairwise(found)):
        raise InvalidValue(f"escalate={list(escalate)!r}: each step is later than the one before it")
    if expires_ms is not None and found and found[-1].after_ms >= expires_ms:
        raise InvalidValue(
            f"escalate_in={steps[-1][0]}, expires_in={expires_in}: it would expire before anybody else is asked"
        )
    if not assignee and expires_ms is None and expires_at is None and not found:
        return ANYBODY  # the default itself is not written
    first = found[0] if found else None
    return Terms(
        assignee, expires_ms, first.to if first else "", first.after_ms if first else None, expires_at,
        tuple(found[1:]),
    )  # fmt: skip


def _steps(escalate: Steps) -> list[tuple[float, str]]:
    """Raises InvalidValue."""
    steps: list[tuple[Any, Any]]
    try:
        steps = [(after, to) for after, to in escalate]
    except (TypeError, ValueError):
        steps = [(0, "")]
    if not all(isinstance(after, int | float) and isinstance(to, str) and to for after, to in steps):
        raise InvalidValue(
            f"escalate={escalate!r}: a list of steps, each (seconds from the beginning, who is asked then)"
        )
    return steps


def person_of(person: str | Question) -> Person | None:
    """What `person=` of a call says; None: nobody is asked. Raises InvalidValue."""
    if isinstance(person, Question):
        return person.person
    if not isinstance(person, str):
        raise InvalidValue(f"person={person!r}: the question as text, or a Question")
    if not person:
        return None
    check_question(person)
    return Person(person)


def ask_digest(question: str, context: bytes, proposed: bytes, schema: bytes) -> str:
    """The digest of what people see of a body's question."""
    return digest(b"\0".join((question.encode(), context, proposed, schema)))


def chain_digest(question: str, data: bytes, agent: str, kind: str, message: str) -> str:
    """The digest of what people see of a call that no agent could do."""
    said = (question, digest(data), agent, kind, message)
    return digest("\0".join(said).encode("utf-8", "replace"))


def check_question(question: str) -> None:
    check(question)
    if not question.strip() or len(question) > QUESTION_CHARS_MAX:
        raise InvalidValue(
            f"a question has 1 to {QUESTION_CHARS_MAX} characters, this one {len(question)}: what is long goes into "
            "context="
        )


def _moment_ms(until: Moment | float | None) -> int | None:
    """Raises InvalidValue."""
    if until is None:
        return None
    if not isinstance(until, int | float) and until.tzinfo is None:
        raise InvalidValue(f"until={until}: it has no time zone; say datetime(..., tzinfo=UTC)")
    seconds = until if isinstance(until, int | float) else until.timestamp()
    if not 0 < seconds < SECONDS_MAX:
        raise InvalidValue(f"until={until}: a datetime with a time zone, or seconds since 1970")
    return round(seconds * 1000)


def _ms(name: str, seconds: float | None) -> int | None:
    return None if seconds is None else _ms_of(name, seconds)


def _ms_of(name: str, seconds: float) -> int:
    if not 0 < seconds < SECONDS_MAX:
        raise InvalidValue(f"{name}={seconds}: a finite number of seconds, more than 0")
    return max(round(seconds * 1000), 1)


class Answer(Generic[T]):
    """The outcome of a question that a body asked with `run.ask`.

    Attributes:
        outcome: accepted: the proposed answer, unchanged. edited: an answer that differs from the proposed one.
            answered:
            there was no proposal. refused: a person declined to answer. expired: nobody answered in time.
        by: who answered or refused; empty if it expired.
        at: when, in seconds since 1970 by the database's clock.
        reason: of a refusal.
    """

    __slots__ = ("_call", "_value", "at", "by", "outcome", "reason")

    def __init__(self, outcome: Outcome, value: Any, *, by: str, at: float, reason: str, call: str) -> None:
        self.outcome: Outcome = outcome
        self.by = by
        self.at = at
        self.reason = reason
        self._value = value
        self._call = call

    @property
    def is_given(self) -> bool:
        """Whether there is a value. False if the question was refused or expired."""
        return self.outcome not in ("refused", "expired")

    @property
    def value(self) -> T:
        """The answer, of the type that was asked for.

        Raises:
            NotAnswered: there is none; `kind` is `not_answered` (refused) or `expired`. If nothing handles it, the run
                fails
                with that kind, and `pointsman runs redrive` asks again.
        """
        if not self.is_given:
            expired = self.outcome == "expired"
            kind, why = ("expired", "nobody answered in time") if expired else ("not_answered", self._refusal())
            raise NotAnswered(kind, why, call=self._call)
        value: T = self._value
        return value

    def _refusal(self) -> str:
        return f"{self.by} refused: {self.reason}".removesuffix(": ")

    def __repr__(self) -> str:
        value = f", value={self._value!r}" if self.is_given else ""
        return f"Answer({self.outcome}, by={self.by!r}{value})"
