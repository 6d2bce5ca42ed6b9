"""Requests: what the body did in answer to a cause. They follow it directly in the log. The last one ends the run."""

from __future__ import annotations

import msgspec

from pointsman.kernel.asking import ANYBODY, Person, Terms
from pointsman.kernel.events.base import ABSENT, Failure, PlannedTask, Request
from pointsman.kernel.pieces import Piece
from pointsman.kernel.policy.amounts import Budget


class CallRequested(Request, frozen=True, omit_defaults=True):
    """Durable before the agent is called (request-first). Its idempotency key is run/generation/call, by this
    version.

    `fallback`, `person` (the question, with its terms where it has some) and `default` (a result) are what the workflow
    wants done when the agent fails.
    """

    target: str
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    fallback: tuple[str, ...] | None = None
    person: Person | str = ""
    default: msgspec.Raw = ABSENT
    priority: int = 0


class TimerSet(Request, frozen=True):
    """The body waits until `due`."""

    due: int


class SignalAwaited(Request, frozen=True):
    """The body waits for a signal of this name."""

    name: str


class ChildStarted(Request, frozen=True, omit_defaults=True):
    """The body started a child run; it is created in the same append."""

    run: str
    workflow: str
    workflow_version: int = 1
    input: msgspec.Raw = ABSENT
    pieces: tuple[Piece, ...] = ()
    digest: str = ""
    budget: Budget | None = None


class HumanTaskRequested(Request, frozen=True, omit_defaults=True):
    """The body asks a person: the task is open. `digest`: of what people see of it. `context`, `proposed`: JSON, empty
    where there is none. `schema`: JSON Schema of an answer; empty: any JSON."""

    task: str
    question: str
    digest: str
    terms: Terms = ANYBODY
    context: msgspec.Raw = ABSENT
    proposed: msgspec.Raw = ABSENT
    schema: msgspec.Raw = ABSENT


class AgentSelected(Request, frozen=True, omit_defaults=True):
    """A recorded read of the agent directory."""

    agent: str
    reason: str
    needs: tuple[str, ...] = ()


class AgentsTriggered(Request, frozen=True, omit_defaults=True):
    """A recorded read of the agent directory: the agents that subscribe to an event, which an agent emitted in the call
    `by`.
    """

    event: str
    by: str = ""
    agents: tuple[str, ...] = ()


class PlanDeclared(Request, frozen=True):
    """The tasks of a plan that begins, and what each needs, for display. Their outcomes are those of their calls."""

    tasks: tuple[PlannedTask, ...]


class AgentRerouted(Request, frozen=True, omit_defaults=True):
    """The named agent does not exist: the call goes to `agent`. Comes directly before the call's own request."""

    asked: str
    agent: str
    reason: str


class CallRefused(Request, frozen=True, omit_defaults=True):
    """A request that failed before it was made: it names an agent that does not exist, and there is no generalist."""

    asked: str
    failure: Failure


class StateSet(Request, frozen=True, omit_defaults=True):
    """The new typed state of the run: JSON of that version of its schema. Like an input it is stored whole or in
    pieces.
    """

    state_version: int = 1
    input: msgspec.Raw = msgspec.field(default=ABSENT, name="state")
    pieces: tuple[Piece, ...] = ()
    digest: str = ""


class CallOmitted(Request, frozen=True, omit_defaults=True, kw_only=True):
    """A call that was not made for the cluster's mode: `output`, which the body declared, is its result; without, it
    has failed. A recorded read of the mode. `optional`: what the call is optional for; empty: it is not, and the mode
    is emergency."""

    asked: str
    mode: str
    output: msgspec.Raw = ABSENT
    optional: str = ""


class ModeRead(Request, frozen=True):
    """A recorded read of the cluster's mode."""

    mode: str


class CallCancelled(Request, frozen=True):
    """The body gave up on a call that was under way."""


class RunCompleted(Request, frozen=True, omit_defaults=True):
    """The body returned `output`."""

    call: str = ""
    output: msgspec.Raw = msgspec.Raw(b"null")


class RunFailed(Request, frozen=True, omit_defaults=True, kw_only=True):
    """The body raised an error. `call`: the call whose failure ended the body; empty: none."""

    call: str = ""
    failure: Failure


class RunWasCancelled(Request, frozen=True, omit_defaults=True):
    """The body ended after it was asked to stop."""

    call: str = ""
    reason: str = ""
