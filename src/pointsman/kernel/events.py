"""The events of a run: frozen facts in the past tense, each with a version, and how they become bytes and back.

A type's name and version are declared here and never derived from a class path. A released version of an event never
changes: a new shape is a new version, with an upcaster in `upcast.py`. Fields left at their default are not written.

Three groups, and the law between them (see `execution.py`):
- a *cause* is delivered to the workflow's body, which then runs until it waits again;
- a *request* is what the body did in answer; the requests of a cause follow it directly in the log;
- a *note* changes the folded state alone; the body never sees it.

An input stands in an event whole, as JSON in `input`, or as `pieces` (see `pieces.py`), and then with its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from pointsman.kernel.errors import UnknownEvent
from pointsman.kernel.pieces import INLINE_BYTES_MAX, Piece, literal, split_body
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.kernel.values import digest

ABSENT = msgspec.Raw(b"")
"""No value; not written."""
Find = Callable[[bytes], tuple[tuple[Piece, ...], bytes]]


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of all events."""

    VERSION: ClassVar[int] = 1


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an attempt, a call or a run failed. `kind` is stable; `message` is for people."""

    kind: str
    message: str = ""
    retryable: bool = True
    retry_after_ms: int | None = None


class Cause(Event, frozen=True):
    """Delivered to the body."""


class Request(Event, frozen=True, omit_defaults=True):
    """Made by the body."""

    call: str


class Note(Event, frozen=True):
    """Not seen by the body."""


# -- causes ----------------------------------------------------------------------------------------------------------


class RunStarted(Cause, frozen=True, omit_defaults=True):
    workflow: str
    seed: str
    workflow_version: int = 1
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    tenant: str = "default"
    parent: str | None = None
    parent_call: str | None = None
    budget: Budget | None = None


class CallCompleted(Cause, frozen=True, omit_defaults=True):
    """`spent`: what the attempt used up, where a budget had to be asked for it."""

    call: str
    output: msgspec.Raw
    attempt: int = 1
    spent: Amount | None = None


class CallFailed(Cause, frozen=True, omit_defaults=True):
    """The call is over: no attempt, no other agent and no person is left. `spent`: by its last attempt, if that is not
    recorded before."""

    call: str
    failure: Failure
    attempt: int = 1
    spent: Amount | None = None


class CallSkipped(Cause, frozen=True, omit_defaults=True):
    """Nobody could do it, and the workflow goes on with the answer that it named for this case."""

    call: str
    output: msgspec.Raw
    failure: Failure


class HumanTaskAnswered(Cause, frozen=True, omit_defaults=True):
    """A person gave the result of a call, or declined (`failure`)."""

    call: str
    task: str
    mail: int
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
    by: str = ""


class TimerFired(Cause, frozen=True):
    call: str


class SignalReceived(Cause, frozen=True, omit_defaults=True):
    name: str
    key: str
    mail: int
    payload: msgspec.Raw = msgspec.Raw(b"null")


class ChildEnded(Cause, frozen=True, omit_defaults=True):
    call: str
    mail: int
    status: str
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
    spent: Amount | None = None


class CancelRequested(Cause, frozen=True, omit_defaults=True):
    mail: int
    key: str = ""
    reason: str = ""


# -- requests --------------------------------------------------------------------------------------------------------


class CallRequested(Request, frozen=True, omit_defaults=True):
    """Durable before the agent is called (request-first). Its idempotency key is run/generation/call, by this
    version.

    `fallback`, `person` (the question) and `default` (a result) are what the workflow wants done when the agent fails.
    """

    target: str
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    fallback: tuple[str, ...] | None = None
    person: str = ""
    default: msgspec.Raw = ABSENT
    priority: int = 0


class TimerSet(Request, frozen=True):
    due: int


class SignalAwaited(Request, frozen=True):
    name: str


class ChildStarted(Request, frozen=True, omit_defaults=True):
    run: str
    workflow: str
    workflow_version: int = 1
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    budget: Budget | None = None


class AgentSelected(Request, frozen=True, omit_defaults=True):
    """A recorded read of the agent directory."""

    agent: str
    reason: str
    needs: tuple[str, ...] = ()


class AgentRerouted(Request, frozen=True, omit_defaults=True):
    """The named agent does not exist: the call goes to `agent`. Comes directly before the call's own request."""

    asked: str
    agent: str
    reason: str


class CallRefused(Request, frozen=True, omit_defaults=True):
    """A request that was over before it was made: it names an agent that does not exist, and there is no other."""

    asked: str
    failure: Failure


class CallCancelled(Request, frozen=True):
    """The body gave up on a call that was under way."""


class RunCompleted(Request, frozen=True, omit_defaults=True):
    call: str = ""
    output: msgspec.Raw = msgspec.Raw(b"null")


class RunFailed(Request, frozen=True, omit_defaults=True, kw_only=True):
    call: str = ""
    failure: Failure


class RunWasCancelled(Request, frozen=True, omit_defaults=True):
    call: str = ""
    reason: str = ""


# -- notes -----------------------------------------------------------------------------------------------------------


class AttemptFailed(Note, frozen=True, omit_defaults=True):
    """An attempt failed, and the call is not over. Another is due at `retry_at` (milliseconds, the database's clock);
    without that, the decision follows: another agent, or a person."""

    call: str
    attempt: int
    failure: Failure
    retry_at: int | None = None
    spent: Amount | None = None


class CallRetried(Note, frozen=True, omit_defaults=True):
    """The next attempt, durable before the agent is called again."""

    call: str
    attempt: int


class CallReassigned(Note, frozen=True, omit_defaults=True):
    """Another agent gets the call, under the same key; `failure` is why. Durable before that agent is called.
    `passed_over`: agents of the chain that could not take it, each with the reason."""

    call: str
    attempt: int
    agent: str
    failure: Failure
    passed_over: tuple[str, ...] = ()


class CallHeld(Note, frozen=True, omit_defaults=True):
    """The call waits for its agent, which can't take it now. No attempt is used up."""

    call: str
    failure: Failure


class CallAdmitted(Note, frozen=True):
    """The wait is over: the attempt is about to be made. Durable before it, so that whoever comes next knows that it
    may have begun."""

    call: str


class CallReserved(Note, frozen=True, omit_defaults=True):
    """What the next attempt may use up is set aside: in the run's own budget, and in tranches of shared ones. A second
    reservation of an attempt means that the end of the first is unknown: it counts in full."""

    call: str
    attempt: int
    amount: Amount
    tranches: tuple[str, ...] = ()


class CallOverspent(Note, frozen=True, omit_defaults=True):
    """An attempt used up more than the agent's card says is the most."""

    call: str
    attempt: int
    agent: str
    reserved: Amount
    spent: Amount


class HumanTaskOpened(Note, frozen=True, omit_defaults=True):
    """A person is asked for the result of a call; `failure` is why no agent gave one."""

    call: str
    task: str
    question: str
    failure: Failure


class EffectRecorded(Note, frozen=True, omit_defaults=True):
    """An agent had an effect that a retry must not repeat (`ctx.once`)."""

    call: str
    name: str
    mail: int
    value: msgspec.Raw = msgspec.Raw(b"null")


class RunStopped(Note, frozen=True, omit_defaults=True):
    """The code does not fit the log (`kind` says how). The run goes on when another build drives it."""

    kind: str
    message: str
    build: str = ""


Mailed = SignalReceived | HumanTaskAnswered | ChildEnded | CancelRequested | EffectRecorded
"""What comes by the run's mailbox."""
TERMINAL = (RunCompleted, RunFailed, RunWasCancelled)
"""One of these ends a run, and nothing follows it."""

EVENT_TYPES: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        RunStarted, CallCompleted, CallFailed, CallSkipped, TimerFired, SignalReceived, HumanTaskAnswered, ChildEnded,
        CancelRequested,
        CallRequested, TimerSet, SignalAwaited, ChildStarted, AgentSelected, AgentRerouted, CallRefused, CallCancelled,
        RunCompleted, RunFailed, RunWasCancelled, AttemptFailed, CallRetried, CallReassigned, CallHeld, CallAdmitted,
        CallReserved, CallOverspent, HumanTaskOpened, EffectRecorded, RunStopped,
    )
}  # fmt: skip

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(cls) for name, cls in EVENT_TYPES.items()}


class Recorded(msgspec.Struct, frozen=True):
    """An event as its run's stream holds it. `at` is in milliseconds by the database's clock."""

    sequence: int
    at: int
    type: str
    version: int
    body: bytes
    epoch: int = 0


def with_input(event_type: type[Any], data: bytes, find: Find | None = None, **fields: Any) -> tuple[Any, bytes]:
    """An event with an input, and the tail of its body: empty when the input is small and stays whole. `find` gives
    the pieces of a large one, and their tail; without it, one literal."""
    if len(data) <= INLINE_BYTES_MAX:
        return event_type(input=msgspec.Raw(data), **fields), b""
    pieces, tail = find(data) if find is not None else (literal(data), data)
    return event_type(pieces=pieces, digest=digest(data), **fields), tail


def same_bytes(event: RunStarted | CallRequested | ChildStarted, data: bytes) -> bool:
    """Is `data` what the event recorded? Told by the digest where the input stands in pieces."""
    return event.digest == digest(data) if event.pieces else bytes(event.input) == data


def encode_event(event: Event, tail: bytes = b"") -> bytes:
    """The body of an event, as stored."""
    header = _encoder.encode(event)
    return header + b"\n" + tail if tail else header


def decode_event(recorded: Recorded) -> Event:
    """The event of a stored body of today's version; older versions go through `upcast.py` first.

    Raises:
        UnknownEvent: a type or version that this release does not know, or a body that is not of it.
    """
    decoder = _decoders.get(recorded.type)
    if decoder is None or recorded.version != EVENT_TYPES[recorded.type].VERSION:
        raise UnknownEvent(
            f"event {recorded.sequence} is a {recorded.type} v{recorded.version}, which this release does not know: "
            "deploy a newer release of Pointsman"
        )
    try:
        event: Event = decoder.decode(split_body(recorded.body)[0])
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"event {recorded.sequence} is not a {recorded.type}: {error}") from error
    return event
