"""Mail as events: what others left in a run's mailbox, in the words of its log."""

from __future__ import annotations

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import UnknownEvent
from pointsman.ports.event_log import Letter
from pointsman.ports.mailbox import Mail

SIGNAL, CANCEL, CHILD = "signal", "cancel", "child"
CANCEL_KEY = "cancel"
"""There is one cancel to a run."""


class SignalMail(msgspec.Struct, frozen=True):
    name: str
    payload: msgspec.Raw


class CancelMail(msgspec.Struct, frozen=True, omit_defaults=True):
    reason: str = ""


class ChildMail(msgspec.Struct, frozen=True, omit_defaults=True):
    call: str
    status: str
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: ev.Failure | None = None


def signal_key(key: str) -> str:
    """Keys of callers stand apart from the runtime's own."""
    return f"signal:{key}"


def encode(mail: SignalMail | CancelMail | ChildMail) -> bytes:
    return msgspec.json.encode(mail)


def event_of(mail: Mail) -> ev.SignalReceived | ev.ChildEnded | ev.CancelRequested:
    """Raises UnknownEvent: mail of a newer release."""
    if mail.kind == SIGNAL:
        signal = msgspec.json.decode(mail.body, type=SignalMail)
        return ev.SignalReceived(name=signal.name, key=mail.key, mail=mail.number, payload=signal.payload)
    if mail.kind == CANCEL:
        reason = msgspec.json.decode(mail.body, type=CancelMail).reason
        return ev.CancelRequested(mail=mail.number, key=mail.key, reason=reason)
    if mail.kind == CHILD:
        child = msgspec.json.decode(mail.body, type=ChildMail)
        return ev.ChildEnded(
            call=child.call, mail=mail.number, status=child.status, output=child.output, failure=child.failure
        )
    raise UnknownEvent(f"mail {mail.number} is a {mail.kind!r}, which this release does not know")


def letter_to_parent(parent: str, call: str, outcome: ev.Event) -> Letter:
    """The last word of a child, for its parent's mailbox."""
    match outcome:
        case ev.RunCompleted():
            mail = ChildMail(call, "completed", output=outcome.output)
        case ev.RunFailed():
            mail = ChildMail(call, "failed", failure=outcome.failure)
        case _:
            mail = ChildMail(call, "cancelled")
    return Letter(run=parent, key=f"child:{call}", kind=CHILD, body=encode(mail))
