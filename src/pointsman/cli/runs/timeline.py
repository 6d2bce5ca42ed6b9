"""A run's events folded into what a person wants to see: spans (calls, timers, signals, children) and marks.

Pure: events as the API gives them in, a `Timeline` out. Unknown event types become marks, so an older command line
shows a newer run. Must not know how it is drawn (`drawing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pointsman.cli.output import to_ms

Event = Mapping[str, Any]
Failure = Mapping[str, Any]


@dataclass
class Attempt:
    """One try of a call. `end` is None while it is under way."""

    start: int
    end: int | None = None
    failure: Failure | None = None


@dataclass
class Span:
    """Something that takes time. `kind`: call, timer, signal or child. `outcome`: pending until it is over."""

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
    """Something that happened at one moment. `kind`: epoch, signal, cancel, stopped, end or event."""

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


def build(events: Iterable[Event]) -> Timeline:
    """Fold a run's events, all of them or its first ones."""
    builder = _Builder()
    for event in events:
        builder.add(event)
    return builder.timeline


def failure_text(failure: Failure | None) -> str:
    if not failure:
        return ""
    return f"{failure.get('kind', 'failed')}: {failure.get('message', '')}".rstrip(": ")


class _Builder:
    def __init__(self) -> None:
        self.timeline = Timeline()
        self._open: dict[str, Span] = {}
        self._unclaimed: dict[str, int] = {}
        self._pending_notes: dict[str, list[str]] = {}
        self._epoch: int | None = None
        self._folds: dict[str, Callable[[int, int, Mapping[str, Any]], None]] = {
            "RunStarted": self._started, "CallRequested": self._requested, "CallRetried": self._retried,
            "AttemptFailed": self._attempt_failed, "CallCompleted": self._completed, "CallFailed": self._failed,
            "CallRefused": self._refused, "CallCancelled": self._cancelled, "TimerSet": self._timer,
            "TimerFired": self._fired, "SignalAwaited": self._awaited, "SignalReceived": self._signal,
            "ChildStarted": self._child, "ChildEnded": self._child_ended, "AgentSelected": self._selected,
            "AgentRerouted": self._rerouted, "CancelRequested": self._cancel, "RunStopped": self._stopped,
            "RunCompleted": self._end, "RunFailed": self._end_failed, "RunWasCancelled": self._end_cancelled,
        }  # fmt: skip

    def add(self, event: Event) -> None:
        at, sequence = to_ms(event["at"]), int(event["sequence"])
        if not self.timeline.start:
            self.timeline.start = at
        self.timeline.last = max(self.timeline.last, at)
        epoch = event.get("epoch")
        if epoch is not None and self._epoch is not None and epoch != self._epoch:
            self._mark(at, sequence, "epoch", f"a coordinator took it over (epoch {self._epoch} → {epoch})")
        self._epoch = epoch if epoch is not None else self._epoch
        fold = self._folds.get(event["type"])
        if fold is None:
            self._mark(at, sequence, "event", str(event["type"]))
        else:
            fold(at, sequence, event["data"])

    # -- spans --------------------------------------------------------------------------------------------------------

    def _open_span(self, at: int, sequence: int, call: str, kind: str, target: str) -> Span:
        span = Span(call, kind, target, at, sequence, notes=self._pending_notes.pop(call, []))
        self._open[call] = span
        self.timeline.spans.append(span)
        return span

    def _close(self, at: int, call: str, outcome: str) -> Span | None:
        span = self._open.pop(call, None)
        if span is None:
            return None
        span.end, span.outcome = at, outcome
        if span.attempts and span.attempts[-1].end is None:
            span.attempts[-1].end = at
        return span

    def _started(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self.timeline.input = data.get("input")

    def _requested(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._open_span(at, sequence, data["call"], "call", data["target"])
        span.attempts.append(Attempt(at))
        span.input, span.has_input = data.get("input"), True

    def _attempt_failed(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._open.get(data["call"])
        if span is not None and span.attempts:
            span.attempts[-1].end, span.attempts[-1].failure = at, data["failure"]

    def _retried(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._open.get(data["call"])
        if span is not None:
            span.attempts.append(Attempt(at))

    def _completed(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._close(at, data["call"], "completed")
        if span is not None:
            span.output = data.get("output")

    def _failed(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._close(at, data["call"], "failed")
        if span is not None:
            span.failure = data["failure"]
            if span.attempts:
                span.attempts[-1].failure = data["failure"]

    def _refused(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._open_span(at, sequence, data["call"], "call", data["asked"])
        self._close(at, span.call, "failed")
        span.failure = data["failure"]

    def _cancelled(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._close(at, data["call"], "given up")

    def _timer(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._open_span(at, sequence, data["call"], "timer", "timer")

    def _fired(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._close(at, data["call"], "fired")

    def _awaited(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        name = data["name"]
        self._open_span(at, sequence, data["call"], "signal", name)
        if self._unclaimed.get(name):
            self._unclaimed[name] -= 1
            self._close(at, data["call"], "received")

    def _signal(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        name = data["name"]
        self._mark(at, sequence, "signal", f"signal {name}")
        for call, span in self._open.items():
            if span.kind == "signal" and span.target == name:
                span.output = data.get("payload")
                self._close(at, call, "received")
                return
        self._unclaimed[name] = self._unclaimed.get(name, 0) + 1

    def _child(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._open_span(at, sequence, data["call"], "child", data["workflow"])
        span.notes.append(f"run {data['run']}")
        span.input, span.has_input = data.get("input"), True

    def _child_ended(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        span = self._close(at, data["call"], data["status"])
        if span is not None:
            span.failure, span.output = data.get("failure"), data.get("output")

    # -- marks --------------------------------------------------------------------------------------------------------

    def _mark(self, at: int, sequence: int, kind: str, text: str) -> None:
        self.timeline.marks.append(Mark(at, sequence, kind, text))

    def _selected(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "select", f"selected {data['agent']}: {data['reason']}")

    def _rerouted(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        note = f"{data['asked']} does not exist: {data['reason']}"
        self._pending_notes.setdefault(data["call"], []).append(note)

    def _cancel(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "cancel", f"asked to stop: {data.get('reason', '')}".rstrip(": "))

    def _stopped(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "stopped", f"stopped: {data['kind']}: {data['message']}")

    def _end(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "end", "completed")

    def _end_failed(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "failed", f"failed: {failure_text(data['failure'])}")

    def _end_cancelled(self, at: int, sequence: int, data: Mapping[str, Any]) -> None:
        self._mark(at, sequence, "cancel", f"cancelled: {data.get('reason', '')}".rstrip(": "))
