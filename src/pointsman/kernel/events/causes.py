"""Causes: what happened to a run. Each is delivered to the body, which then runs until it waits again."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pointsman.kernel.events.base import ABSENT, Cause, Emission, Failure, KeptSignal, KeptState
from pointsman.kernel.pieces import Piece
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget


class RunStarted(Cause, frozen=True, omit_defaults=True):
    """The first event of a run: which workflow, on what input, under which budget. `seed`: of its `run.random()`.
    `parent`, `parent_call`: the run whose call this one is, if it is a child."""

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


class RunRestarted(Cause, frozen=True, omit_defaults=True, kw_only=True):
    """The first event of a generation: the body begins again, with this input. It says again all that goes on, so that
    a replay begins here and reads nothing before it: `children` that run, by call, and what each was `given` of the
    budget; `signals` that nobody has waited for; how much mail is `folded`; the typed `state`."""

    generation: int
    workflow: str
    seed: str
    started_at: int
    workflow_version: int = 1
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    tenant: str = "default"
    parent: str | None = None
    parent_call: str | None = None
    budget: Budget | None = None
    spent: Amount = NOTHING
    children: Mapping[str, str] = {}
    given: Mapping[str, Amount] = {}
    signals: tuple[KeptSignal, ...] = ()
    folded: int = 0
    cancel: str | None = None
    redrives: int = 0
    state: KeptState | None = None


class CallCompleted(Cause, frozen=True, omit_defaults=True):
    """The call has a result. `spent`: what the attempt used up, if a budget was reserved for it. `emitted`: what its
    agent emitted.
    """

    call: str
    output: msgspec.Raw
    attempt: int = 1
    spent: Amount | None = None
    emitted: tuple[Emission, ...] = ()


class CallFailed(Cause, frozen=True, omit_defaults=True):
    """The call has failed for good: no attempt, no other agent and no person is left. `spent`: what its last attempt
    used up, if that is not recorded before.
    """

    call: str
    failure: Failure
    attempt: int = 1
    spent: Amount | None = None


class CallSkipped(Cause, frozen=True, omit_defaults=True):
    """Nobody could do the call, and the workflow goes on with the default that it named for this case."""

    call: str
    output: msgspec.Raw
    failure: Failure


class HumanTaskAnswered(Cause, frozen=True, omit_defaults=True):
    """A person gave the result of a call or the answer to a body's question, or refused to (`failure`, `reason`).
    `edited`: the answer differs from the proposed one. `digest`: of what the person saw. `answered_at`: when it was
    accepted, ms by the database's clock; the run may have taken it in much later.
    """

    call: str
    task: str
    mail: int
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
    by: str = ""
    reason: str = ""
    edited: bool = False
    digest: str = ""
    answered_at: int = 0


class HumanTaskExpired(Cause, frozen=True, omit_defaults=True):
    """Nobody answered in time. Expiry comes by the mailbox, as answers do, so that the first of the two counts."""

    call: str
    task: str
    mail: int
    expired_at: int = 0


class TimerFired(Cause, frozen=True):
    """A timer of the body is due."""

    call: str


class SignalReceived(Cause, frozen=True, omit_defaults=True):
    """Somebody sent the run a signal. `key`: the idempotency key that it came with."""

    name: str
    key: str
    mail: int
    payload: msgspec.Raw = msgspec.Raw(b"null")


class ChildEnded(Cause, frozen=True, omit_defaults=True):
    """A child run has ended. `run`: its id, as in the call's request. `spent`: what it used up in all of the budget
    that it was given.
    """

    call: str
    mail: int
    status: str
    run: str = ""
    output: msgspec.Raw = msgspec.Raw(b"null")
    failure: Failure | None = None
    spent: Amount | None = None


class CancelRequested(Cause, frozen=True, omit_defaults=True):
    """Somebody asked the run to stop. The body may clean up, and then ends."""

    mail: int
    key: str = ""
    reason: str = ""
