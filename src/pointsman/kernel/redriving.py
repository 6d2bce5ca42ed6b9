"""Redrive: a failed run goes on from the call that failed. This module decides where, and which events still count.

`RunRedriven.after` names an event. The events after it, in the order in which they count, are void: the failed
outcomes, what the body did in answer to them, and the end. Not void is what others did meanwhile for calls that were
under way at that point: their outcomes and the run's mail follow the `RunRedriven` in their old order, so that nothing
completed is repeated. The cost of all of it stays spent. Nothing is deleted: a redrive is one more event, and can be
redriven too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import OpenTask
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.state import RunState
from pointsman.kernel.upcast import read_event

_TASK_OVER = ev.HumanTaskAnswered | ev.HumanTaskExpired
_MAIL = ev.SignalReceived | ev.CancelRequested
"""Void events that are kept in any case, whatever happened to the calls."""
_ABOUT_TASKS = (
    ev.CallRequested | ev.HumanTaskOpened | ev.HumanTaskRequested | ev.CallCancelled | ev.CallSkipped | ev.RunRedriven
    | ev.RunRestarted | _TASK_OVER
)  # fmt: skip
"""The events that open or end a human task."""


class Fact(msgspec.Struct, frozen=True):
    """A recorded event. `is_again`: it counts as coming after a redrive, although it was recorded before."""

    sequence: int
    at: int
    event: ev.Event
    is_again: bool = False


class RedrivePlan(msgspec.Struct, frozen=True):
    """Where a failed run would go on.

    Attributes:
        after: see the module.
        failed: the outcome that ended the run; None: its own code ended it.
        calls: the calls that get new attempts.
        failed_children: child runs among `calls`, by call; their outcome is awaited again.
        open_children: the same for child runs that were under way when the run failed.
        tasks: human tasks that are open again.
        questions: questions of the body that are asked again.
    """

    number: int
    after: int
    failed: ev.Event | None
    calls: tuple[str, ...]
    failed_children: dict[str, str]
    open_children: dict[str, str]
    tasks: list[OpenTask]
    questions: list[OpenTask]
    spent: Amount
    folded: int


def facts_of(recorded: Sequence[ev.Recorded]) -> list[Fact]:
    """The recorded events as facts. Raises UnknownEvent."""
    return [Fact(row.sequence, row.at, read_event(row)) for row in recorded]


def redriven(
    found: RedrivePlan, children: Mapping[str, int], *, by: str, reason: str, has_fresh_key: bool
) -> ev.RunRedriven:
    """The event that carries out a plan. `children`: the current sequence of each child that it waits for, by call."""
    return ev.RunRedriven(
        number=found.number, after=found.after, calls=found.calls, children=dict(children), spent=found.spent,
        folded=found.folded, has_fresh_key=has_fresh_key, by=by, reason=reason,
    )  # fmt: skip


def in_force(facts: Sequence[Fact]) -> list[Fact]:
    """The events that count, in the order in which they count.

    Raises:
        CorruptLog: a redrive names an event that does not exist.
    """
    out: list[Fact] = []
    for fact in facts:
        if not isinstance(fact.event, ev.RunRedriven):
            out.append(fact)
            continue
        cut = next((n for n in range(len(out), 0, -1) if out[n - 1].sequence == fact.event.after), 0)
        if not cut:
            raise CorruptLog(f"event {fact.sequence} redrives after event {fact.event.after}, which is not there")
        void = out[cut:]
        del out[cut:]
        out.append(fact)
        out += _kept(out, void, fact.event.calls)
    return out


def _kept(before: Sequence[Fact], void: Sequence[Fact], again: Sequence[str]) -> list[Fact]:
    """The void events that still count because others made them: mail, and outcomes of calls that were under way."""
    known = {fact.event.call for fact in before if isinstance(fact.event, ev.Request)}.difference(again)
    # A child that was redriven alone ended twice, and its parent recorded both ends: the last one counts.
    ends = {fact.event.call: fact.sequence for fact in void if isinstance(fact.event, ev.ChildEnded)}
    kept: list[Fact] = []
    for fact in void:
        event: Any = fact.event
        if isinstance(event, ev.Request | ev.CallReserved):
            continue
        if isinstance(event, ev.ChildEnded) and ends[event.call] != fact.sequence:
            continue
        if isinstance(event, _MAIL) or getattr(event, "call", None) in known:
            if getattr(event, "spent", None) is not None:  # the redrive records the cost of all of it
                event = msgspec.structs.replace(event, spent=None)
            kept.append(Fact(fact.sequence, fact.at, event, is_again=True))
    return kept


def plan(run: str, facts: Sequence[Fact]) -> RedrivePlan:
    """Where a run whose last event is RunFailed would go on.

    Args:
        facts: all facts of its last generation.

    Raises:
        CorruptLog: they do not end with RunFailed.
    """
    current = in_force(facts)
    place = len(current) - 1
    if not isinstance(current[place].event, ev.RunFailed):
        raise CorruptLog(f"run {run} failed, by its head; the last event of its log is another")
    stray = misplaced(current)
    cut, failed = _decisive(current[: place + 1], stray)
    before, void = current[:cut], current[cut:place]
    then, now = folded(run, before), folded(run, current[:place])
    tasks = then.tasks or {}
    under_way = then.calls.keys() | then.children.keys() | tasks.keys()
    over = _failures(fact for fact in void if fact.sequence not in stray)
    calls = tuple(call for call in over if call in under_way)
    ended = {f.event.call for f in void if isinstance(f.event, ev.ChildEnded)}
    open_children = {call: child for call, child in then.children.items() if call not in ended}
    spent = now.spent + now.reserved
    for call in then.children.keys() & then.given.keys():
        if call in open_children:
            spent -= then.given[call]
        elif call in calls:
            said: Amount | None = over[call].spent
            spent -= then.given[call] if said is None else said
    going_on = folded(run, [*before, *_kept(before, void, calls)])  # a task may have been opened after the cut
    redrives = [fact.event.number for fact in facts if isinstance(fact.event, ev.RunRedriven)]
    return RedrivePlan(
        number=max(redrives, default=then.redrives) + 1, after=before[-1].sequence, failed=failed, calls=calls,
        failed_children={call: then.children[call] for call in calls if call in then.children},
        open_children=open_children,
        tasks=[task for task in (going_on.tasks or {}).values() if task.call not in calls],
        questions=[task for task in tasks.values() if task.call in calls and task.asked is not None],
        spent=spent, folded=now.folded,
    )  # fmt: skip


def misplaced(facts: Sequence[Fact]) -> frozenset[int]:
    """The sequences of answers that came when their human tasks were no longer open. `facts` are events that count."""
    if not any(isinstance(fact.event, _TASK_OVER) for fact in facts):
        return frozenset()
    state, found = RunState(run=""), set()
    for fact in facts:
        if isinstance(fact.event, _ABOUT_TASKS):
            state.evolve(fact.event, fact.at)
            if state.misplaced is fact.event:
                found.add(fact.sequence)
    return frozenset(found)


def _decisive(facts: Sequence[Fact], stray: Set[int]) -> tuple[int, ev.Event | None]:
    """How many of `facts`, which end with RunFailed, are kept; and the outcome that ended the run."""
    end = facts[-1].event
    assert isinstance(end, ev.RunFailed)
    failures = [
        n for n, fact in enumerate(facts) if n and fact.sequence not in stray and _failed_call(fact.event) is not None
    ]
    for n in failures:
        if _failed_call(facts[n].event) == end.call:
            return n, facts[n].event
    for n, fact in enumerate(facts):
        if isinstance(fact.event, ev.AgentsTriggered) and fact.event.call == end.call:
            return n, fact.event
    if end.failure.kind in ("unknown_agent", "omitted"):
        for n in range(len(facts) - 1, 0, -1):
            event = facts[n].event
            if _was_refused(event):
                return n, event
    stay = len(facts) - 1
    while isinstance(facts[stay - 1].event, _MAIL):  # it came before the end was recorded: other code goes on before it
        stay -= 1
    causes = [n for n in range(stay) if isinstance(facts[n].event, ev.Cause) and facts[n].sequence not in stray]
    if failures and failures[-1] == causes[-1]:
        return failures[-1], facts[failures[-1]].event
    return stay, None


def _was_refused(event: ev.Event) -> bool:
    """Whether the event refuses a request of the body at once, because it could not be met."""
    match event:
        case ev.CallRefused():
            return True
        case ev.AgentSelected(agent=agent):
            return not agent
        case ev.CallOmitted(output=output):
            return not bytes(output)
    return False


def _failures(void: Iterable[Fact]) -> dict[str, Any]:
    """The outcomes of calls without a result, by call; not of a child that was redriven alone and now has a result."""
    over: dict[str, Any] = {}
    for fact in void:
        event = fact.event
        call = _failed_call(event)
        if call is not None:
            over[call] = event
        elif isinstance(event, ev.ChildEnded):
            over.pop(event.call, None)
    return over


def _failed_call(event: ev.Event) -> str | None:
    """The call that the event leaves without a result, if it is such an outcome."""
    match event:
        case ev.CallFailed(call=call):
            return call
        case ev.HumanTaskAnswered(call=call, failure=failure) if failure is not None:
            return call
        case ev.HumanTaskExpired(call=call):
            return call
        case ev.ChildEnded(call=call, status=status) if status != "completed":
            return call
    return None


def folded(run: str, facts: Sequence[Fact]) -> RunState:
    """The state after folding events that count. Raises CorruptLog."""
    state = RunState(run=run, sequence=facts[0].sequence - 1)
    try:
        for fact in facts:
            state.sequence = fact.sequence - 1
            state.evolve(fact.event, fact.at)
    except KeyError as error:
        raise CorruptLog(f"run {run}: an event speaks of {error}, which the log does not have") from error
    return state
