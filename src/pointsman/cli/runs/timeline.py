"""What a person wants to see of a run: spans (calls, timers, signals, children) and marks, on one time line.

Plain data. Must not know events (`folding.py`), nor how it is drawn (`drawing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.cli.runs.costs import Account, Cost

Failure = Mapping[str, Any]


@dataclass
class Attempt:
    """One try of a call. `end` is None while it is under way.

    `is_held`: it has not been made: its agent can't take it. `is_told`: a mark of its own says why it failed.
    """

    start: int
    end: int | None = None
    failure: Failure | None = None
    is_held: bool = False
    is_told: bool = False


@dataclass
class Span:
    """Something that takes time. `kind`: call, timer, signal, child or person.

    Attributes:
        target: whom the workflow called. chain: who had it, in order: agents, in the end perhaps a person.
        outcome: pending, or what it waits for, till it is over.
        with_person: since when a person has it (ms).
        has_default: there is a result to go on with when nobody could do it.
    """

    call: str
    kind: str
    target: str
    start: int
    sequence: int
    end: int | None = None
    outcome: str = "pending"
    attempts: list[Attempt] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: Failure | None = None
    output: Any = None
    input: Any = None
    has_input: bool = False
    chain: list[str] = field(default_factory=list)
    with_person: int | None = None
    has_default: bool = False
    account: Account = field(default_factory=Account)

    @property
    def holder(self) -> str:
        """Who has it."""
        return self.chain[-1] if self.chain else self.target

    @property
    def tries(self) -> int:
        """Attempts that were made."""
        return sum(not attempt.is_held for attempt in self.attempts)


@dataclass
class Mark:
    """Something that happened at one moment. `kind`: epoch (woken), takeover, select, emitted, signal, cancel, stopped,
    damaged, repaired, failed, restart, redrive, end or event; and of a `call`: next (another agent gets it), held,
    person, answer, expired, skipped, overspent, effect."""

    at: int
    sequence: int
    kind: str
    text: str
    call: str = ""


@dataclass
class Timeline:
    start: int = 0
    last: int = 0
    input: Any = None
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    budget: Mapping[str, Any] = field(default_factory=dict)
    plans: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """The tasks of each plan, by the call under which it was declared."""
    is_over: bool = False

    def rows(self) -> list[Span | Mark]:
        """Everything in the order of the log."""
        return sorted([*self.spans, *self.marks], key=lambda row: row.sequence)

    @property
    def spent(self) -> Cost:
        """By all calls and children, as far as it is known."""
        total = Cost()
        for span in self.spans:
            total.add_all(span.account.spent)
        return total


def failure_text(failure: Failure | None) -> str:
    if not failure:
        return ""
    return f"{failure.get('kind', 'failed')}: {failure.get('message', '')}".rstrip(": ")
