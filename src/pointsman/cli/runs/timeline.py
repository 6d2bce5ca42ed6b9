"""What a person wants to see of a run: spans (calls, timers, signals, children) and marks, on one time line.

Plain data. Must not know events (`folding.py`), nor how it is drawn (`drawing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Failure = Mapping[str, Any]


@dataclass
class Attempt:
    """One try of a call. `end` is None while it is under way."""

    start: int
    end: int | None = None
    failure: Failure | None = None


@dataclass
class Span:
    """Something that takes time. `kind`: call, timer, signal or child. `outcome`: pending till it is over."""

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


@dataclass
class Mark:
    """Something that happened at one moment. `kind`: epoch (woken), takeover, select, signal, cancel, stopped, failed,
    end or event."""

    at: int
    sequence: int
    kind: str
    text: str


@dataclass
class Timeline:
    start: int = 0
    last: int = 0
    input: Any = None
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def rows(self) -> list[Span | Mark]:
        """Everything in the order of the log."""
        return sorted([*self.spans, *self.marks], key=lambda row: row.sequence)


def failure_text(failure: Failure | None) -> str:
    if not failure:
        return ""
    return f"{failure.get('kind', 'failed')}: {failure.get('message', '')}".rstrip(": ")
