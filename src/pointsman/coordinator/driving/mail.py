"""Mail as events: turns what others left in a run's mailbox into events of its log."""

from __future__ import annotations

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import UnknownEvent
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.state import RunState
from pointsman.ports.event_log import Letter
from pointsman.ports.mailbox import Mail

SIGNAL, CANCEL, CHILD, EFFECT, ANSWER = "signal", "cancel", "child", "effect", "answer"
EXPIRY, ASSIGNMENT = "expiry", "assignment"
CANCEL_KEY = "cancel"
"""There is one cancel to a run."""


class SignalMail(msgspec.Struct, frozen=True):
    name: str
    payload: msgspec.Raw


class CancelMail(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: str = ""


class ChildMail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outcome of a child. `run`: the child's id."""

    call: str
    status: str
    run: str = ""
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: ev.Failure | None = None
    spent: Amount | None = None


class EffectMail(msgspec.Struct, frozen=True):
    call: str
    name: str
    value: msgspec.Raw


class AnswerMail(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person's answer to a human task, or the reason why there is none."""

    call: str
    task: str
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: ev.Failure | None = None
    by: str = ""
    reason: str = ""
    edited: bool = False
    digest: str = ""


class ExpiryMail(msgspec.Struct, frozen=True):
    """The time of a human task is over. It has the same key as an answer, so the first of the two counts."""

    call: str
    task: str


class AssignmentMail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reassignment of a human task: to whom, and by whom."""

    call: str
    task: str
    assignee: str = ""
    by: str = ""


MailBody = SignalMail | CancelMail | ChildMail | EffectMail | AnswerMail | ExpiryMail | AssignmentMail


def signal_key(key: str) -> str:
    """The mail key of a signal. Callers' keys are kept apart from the runtime's own."""
    return f"signal:{key}"


def effect_key(key: str, name: str) -> str:
    """The mail key of an effect. `key`: of the call's attempts, which holds the run's generation."""
    return f"effect:{key}:{name}"


def answer_key(task: str) -> str:
    """The mail key of an answer: a task has one, or it expires."""
    return f"answer:{task}"


def assignment_key(task: str, nonce: bytes) -> str:
    """The mail key of an assignment; a task may be reassigned any number of times."""
    return f"assignment:{task}:{nonce.hex()}"


def effect(call: str, name: str, value: bytes) -> bytes:
    return encode(EffectMail(call, name, msgspec.Raw(value)))


def effect_value(mail: Mail) -> bytes:
    return bytes(msgspec.json.decode(mail.body, type=EffectMail).value)


def answer_of(mail: Mail) -> AnswerMail:
    return msgspec.json.decode(mail.body, type=AnswerMail)


def encode(mail: MailBody) -> bytes:
    return msgspec.json.encode(mail)


def event_of(mail: Mail) -> ev.Mailed:
    """The event of a mail. Raises UnknownEvent: mail of a newer release."""
    if mail.kind == SIGNAL:
        signal = msgspec.json.decode(mail.body, type=SignalMail)
        return ev.SignalReceived(name=signal.name, key=mail.key, mail=mail.number, payload=signal.payload)
    if mail.kind == CANCEL:
        reason = msgspec.json.decode(mail.body, type=CancelMail).reason
        return ev.CancelRequested(mail=mail.number, key=mail.key, reason=reason)
    if mail.kind == CHILD:
        child = msgspec.json.decode(mail.body, type=ChildMail)
        return ev.ChildEnded(
            call=child.call, mail=mail.number, status=child.status, run=child.run, output=child.output,
            failure=child.failure, spent=child.spent,
        )  # fmt: skip
    if mail.kind == EFFECT:
        done = msgspec.json.decode(mail.body, type=EffectMail)
        return ev.EffectRecorded(call=done.call, name=done.name, mail=mail.number, value=done.value)
    if mail.kind == ANSWER:
        answer = answer_of(mail)
        return ev.HumanTaskAnswered(
            call=answer.call, task=answer.task, mail=mail.number, output=answer.output, failure=answer.failure,
            by=answer.by, reason=answer.reason, edited=answer.edited, digest=answer.digest, answered_at=mail.at,
        )  # fmt: skip
    if mail.kind == EXPIRY:
        over = msgspec.json.decode(mail.body, type=ExpiryMail)
        return ev.HumanTaskExpired(call=over.call, task=over.task, mail=mail.number, expired_at=mail.at)
    if mail.kind == ASSIGNMENT:
        given = msgspec.json.decode(mail.body, type=AssignmentMail)
        return ev.HumanTaskAssigned(
            call=given.call, task=given.task, mail=mail.number, assignee=given.assignee, by=given.by,
            assigned_at=mail.at,
        )  # fmt: skip
    raise UnknownEvent(f"mail {mail.number} is a {mail.kind!r}, which this release does not know")


def letter_to_parent(child: RunState, outcome: ev.Event) -> Letter | None:
    """A child's outcome as a letter to its parent, with what it used up of the budget that it was given. A child sends
    one, and one more after each redrive.
    """
    if child.parent is None or child.parent_call is None:
        return None
    call, run = child.parent_call, child.run
    spent = None if child.budget is None else child.spent + child.reserved
    match outcome:
        case ev.RunCompleted():
            mail = ChildMail(call, "completed", run, output=outcome.output, spent=spent)
        case ev.RunFailed():
            mail = ChildMail(call, "failed", run, failure=outcome.failure, spent=spent)
        case _:
            mail = ChildMail(call, "cancelled", run, spent=spent)
    again = f":{child.redrives}" if child.redrives else ""
    return Letter(run=child.parent, key=f"child:{run}{again}", kind=CHILD, body=encode(mail))
