"""Notes: what the runtime decided or learned. They change the folded state alone; the body never sees one."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pointsman.kernel.asking import ANYBODY, Terms
from pointsman.kernel.events.base import Failure, Note
from pointsman.kernel.policy.amounts import NOTHING, Amount


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
    """The call no longer waits, and the attempt is about to be made. This is durable first, so that the next owner
    knows that the attempt may have begun.
    """

    call: str


class CallReserved(Note, frozen=True, omit_defaults=True):
    """What the next attempt may use up is reserved, in the run's own budget and in tranches of shared ones. If an
    attempt has a second reservation, the end of the first is unknown, and it counts in full.
    """

    call: str
    attempt: int
    amount: Amount
    tranches: tuple[str, ...] = ()


class CallOverspent(Note, frozen=True, omit_defaults=True):
    """An attempt used up more than the maximum on the agent's card."""

    call: str
    attempt: int
    agent: str
    reserved: Amount
    spent: Amount


class HumanTaskOpened(Note, frozen=True, omit_defaults=True):
    """A person is asked for the result of a call; `failure` is why no agent gave one. `digest`: of what people see."""

    call: str
    task: str
    question: str
    failure: Failure
    digest: str = ""
    terms: Terms = ANYBODY


class HumanTaskAssigned(Note, frozen=True, omit_defaults=True):
    """Somebody assigned a task to a person or group; an empty `assignee` means nobody in particular."""

    call: str
    task: str
    mail: int
    assignee: str = ""
    by: str = ""
    assigned_at: int = 0


class HumanTaskEscalated(Note, frozen=True, omit_defaults=True):
    """There was no answer for so long that `assignee` is asked instead of `before`. `step`: how many times the task was
    escalated.
    """

    call: str
    task: str
    assignee: str
    before: str
    step: int = 1


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


class LogRepaired(Note, frozen=True, omit_defaults=True):
    """Events `first` to `last` of the run could not be trusted, for this reason, and were moved away; the run goes on
    from the event before. What they recorded is asked for again, under the same keys."""

    first: int
    last: int
    reason: str


class RunRedriven(Note, frozen=True, omit_defaults=True, kw_only=True):
    """A failed run goes on: the one event that may follow a RunFailed. What came after event `after`, in the order that
    counts, no longer does, but for what others did meanwhile (see `kernel/redriving.py`).

    `number` counts the run's redrives, from 1. `calls` get fresh attempts; `children` of them are runs, each with the
    sequence at which it stood. `spent` and `folded` are what the whole log adds up to.
    """

    number: int
    after: int
    calls: tuple[str, ...] = ()
    children: Mapping[str, int] = {}
    spent: Amount = NOTHING
    folded: int = 0
    has_fresh_key: bool = False
    by: str = ""
    reason: str = ""
