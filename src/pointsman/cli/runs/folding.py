"""A run's events folded into a time line.

Pure: events as the API gives them in, a `Timeline` out, of all events or the first ones. Event types that
this release does not know become marks, so an older command line shows a newer run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pointsman.cli.output import preview, to_ms
from pointsman.cli.runs import chain
from pointsman.cli.runs.timeline import Attempt, Mark, Span, Timeline, failure_text

Event = Mapping[str, Any]
STATE_WIDTH = 72


class Seen(NamedTuple):
    """An event, read."""

    at: int
    sequence: int
    data: Mapping[str, Any]


def build(events: Iterable[Event], now: int | None = None) -> Timeline:
    """Fold a run's events, all of them or its first ones. `now` (ms) where the run still goes on."""
    builder = _Folding()
    for event in events:
        builder.add(event)
    if now is not None:
        builder.timeline.last = max(builder.timeline.last, now)
    return builder.timeline


class _Folding:
    """Folds one event after another into `timeline`."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self._open: dict[str, Span] = {}
        self._unclaimed: dict[str, int] = {}
        self._pending_notes: dict[str, list[str]] = {}
        self._epoch: int | None = None
        self._folds: dict[str, Callable[[Seen], None]] = {
            "RunStarted": self._started, "CallRequested": self._requested, "CallCompleted": self._completed,
            "CallFailed": self._failed, "CallRefused": self._refused, "CallCancelled": self._cancelled,
            "CallOmitted": self._omitted, "ModeRead": self._mode,
            "CallSkipped": self._skipped, "HumanTaskAnswered": self._answered,
            "HumanTaskRequested": self._asked, "HumanTaskExpired": self._expired,
            **{name: self._step(step) for name, step in chain.STEPS.items()},
            "TimerSet": self._timer, "TimerFired": self._fired, "SignalAwaited": self._awaited,
            "SignalReceived": self._signal,
            "ChildStarted": self._child, "ChildEnded": self._child_ended, "AgentSelected": self._selected,
            "AgentsTriggered": self._triggered, "PlanDeclared": self._planned,
            "AgentRerouted": self._rerouted, "CancelRequested": self._cancel, "RunStopped": self._stopped,
            "LogRepaired": self._repaired, "StateSet": self._state_set,
            "RunRestarted": self._restarted, "RunRedriven": self._redriven,
            "RunCompleted": self._end, "RunFailed": self._end_failed, "RunWasCancelled": self._end_cancelled,
        }  # fmt: skip

    def add(self, event: Event) -> None:
        seen = Seen(to_ms(event["at"]), int(event["sequence"]), event["data"])
        if not self.timeline.start:
            self.timeline.start = seen.at
        self.timeline.last = max(self.timeline.last, seen.at)
        epoch = event.get("epoch")
        if epoch is not None and self._epoch is not None and epoch != self._epoch:
            kind = "takeover" if self._has_attempt() else "epoch"
            self._mark(seen, kind, f"claimed anew, by a coordinator: epoch {self._epoch} → {epoch}")
        self._epoch = epoch if epoch is not None else self._epoch
        fold = self._folds.get(event["type"])
        if event.get("damage"):
            self._mark(seen, "damaged", f"damaged: {event['damage']}")
        elif fold is None:
            self._mark(seen, "event", str(event["type"]))
        else:
            fold(seen)

    def _has_attempt(self) -> bool:
        """Is an agent being called? Nobody parks a run then, so a new owner has taken it from another."""
        return any(span.attempts and span.attempts[-1].end is None for span in self._open.values())

    # -- spans ---------------------------------------------------------------------------------------------

    def _open_span(self, seen: Seen, call: str, kind: str, target: str) -> Span:
        span = Span(call, kind, target, seen.at, seen.sequence, notes=self._pending_notes.pop(call, []))
        self._open[call] = span
        self.timeline.spans.append(span)
        return span

    def _close(self, seen: Seen, call: str, outcome: str) -> Span | None:
        span = self._open.pop(call, None)
        if span is None:
            return None
        span.end, span.outcome = seen.at, outcome
        span.account.settle(seen.data.get("spent"))
        if span.attempts and span.attempts[-1].end is None:
            span.attempts[-1].end = seen.at
        return span

    def _step(self, step: chain.Step) -> Callable[[Seen], None]:
        """A fold of an event about a call, which says in a sentence what it meant, if that is worth a row."""

        def fold(seen: Seen) -> None:
            span = self._open.get(seen.data["call"])
            if span is None:
                self._too_late(seen)
            elif (said := step(span, seen.data, seen.at)) is not None:
                self._mark(seen, *said, call=span.call)

        return fold

    def _too_late(self, seen: Seen) -> None:
        """Of an effect, that is worth a word: it happened, though the call is over."""
        if "name" in seen.data:
            call, name = seen.data["call"], seen.data["name"]
            self._mark(seen, "effect", f"{call}: “{name}” is recorded, after the call was over")

    def _started(self, seen: Seen) -> None:
        self.timeline.input = seen.data.get("input")
        self.timeline.budget = seen.data.get("budget") or {}

    def _requested(self, seen: Seen) -> None:
        span = self._open_span(seen, seen.data["call"], "call", seen.data["target"])
        span.attempts.append(Attempt(seen.at))
        span.chain.append(span.target)
        span.input, span.has_input = seen.data.get("input"), True
        span.has_default = "default" in seen.data

    def _completed(self, seen: Seen) -> None:
        span = self._close(seen, seen.data["call"], "completed")
        if span is not None:
            span.output = seen.data.get("output")
            for attempt in span.attempts[-1:]:
                attempt.is_held = False

    def _failed(self, seen: Seen) -> None:
        failure, span = seen.data["failure"], self._open.get(seen.data["call"])
        if span is not None:
            chain.drop_unmade(span, failure)
            self._close(seen, span.call, "failed")
            span.failure = failure
            for attempt in span.attempts[-1:]:
                attempt.failure = attempt.failure or failure

    def _skipped(self, seen: Seen) -> None:
        failure, span = seen.data["failure"], self._open.get(seen.data["call"])
        if span is not None:
            chain.drop_unmade(span, failure)
            self._close(seen, span.call, "default instead")
            span.output = seen.data.get("output")
            text = f"nobody could do it, so the run goes on with its default: {failure_text(failure)}"
            self._mark(seen, "skipped", text, call=span.call)

    def _answered(self, seen: Seen) -> None:
        failure, by = seen.data.get("failure"), seen.data.get("by") or "a person"
        span = self._close(seen, seen.data["call"], _said(seen.data))
        if span is None:
            self._mark(seen, "answer", f"{by} answered, but nobody waited for it any more")
            return
        span.chain.append(by)
        span.output = seen.data.get("output") if failure is None else None
        if failure is not None and span.has_default:
            span.outcome = "default instead"
            self._mark(seen, "answer", f"{failure.get('message')}; the run goes on with its default", call=span.call)
        elif failure is not None:
            span.failure = failure

    def _asked(self, seen: Seen) -> None:
        """The body asks a person."""
        data = seen.data
        span = self._open_span(seen, data["call"], "person", data.get("terms", {}).get("assignee") or "anybody")
        span.chain.append(span.target)
        span.with_person, span.outcome = seen.at, "with a person"
        self._mark(seen, "person", f"asked: “{data['question']}” (pointsman inbox show {data['task']})", call=span.call)

    def _expired(self, seen: Seen) -> None:
        span = self._close(seen, seen.data["call"], "expired")
        if span is not None:
            end = "; the run goes on with its default" if span.has_default else ""
            self._mark(seen, "expired", f"nobody answered in time{end}", call=span.call)

    def _refused(self, seen: Seen) -> None:
        span = self._open_span(seen, seen.data["call"], "call", seen.data["asked"])
        self._close(seen, span.call, "failed")
        span.failure = seen.data["failure"]

    def _cancelled(self, seen: Seen) -> None:
        self._close(seen, seen.data["call"], "given up")

    def _timer(self, seen: Seen) -> None:
        self._open_span(seen, seen.data["call"], "timer", "timer")

    def _fired(self, seen: Seen) -> None:
        self._close(seen, seen.data["call"], "fired")

    def _awaited(self, seen: Seen) -> None:
        name = seen.data["name"]
        self._open_span(seen, seen.data["call"], "signal", name)
        if self._unclaimed.get(name):
            self._unclaimed[name] -= 1
            self._close(seen, seen.data["call"], "received")

    def _signal(self, seen: Seen) -> None:
        name = seen.data["name"]
        self._mark(seen, "signal", f"signal {name}")
        for call, span in self._open.items():
            if span.kind == "signal" and span.target == name:
                span.output = seen.data.get("payload")
                self._close(seen, call, "received")
                return
        self._unclaimed[name] = self._unclaimed.get(name, 0) + 1

    def _child(self, seen: Seen) -> None:
        span = self._open_span(seen, seen.data["call"], "child", seen.data["workflow"])
        span.notes.append(f"run {seen.data['run']}")
        span.input, span.has_input = seen.data.get("input"), True

    def _child_ended(self, seen: Seen) -> None:
        span = self._close(seen, seen.data["call"], seen.data["status"])
        if span is not None:
            span.failure, span.output = seen.data.get("failure"), seen.data.get("output")

    # -- marks ---------------------------------------------------------------------------------------------

    def _mark(self, seen: Seen, kind: str, text: str, *, call: str = "") -> None:
        self.timeline.marks.append(Mark(seen.at, seen.sequence, kind, text, call))

    def _selected(self, seen: Seen) -> None:
        self._mark(seen, "select", f"selected {seen.data['agent'] or 'nobody'}: {seen.data['reason']}")

    def _triggered(self, seen: Seen) -> None:
        by, agents = seen.data.get("by"), ", ".join(seen.data.get("agents", ())) or "no subscriber"
        self._mark(seen, "emitted", f"event {seen.data['event']}{f', by {by}' if by else ''} → {agents}")

    def _planned(self, seen: Seen) -> None:
        self.timeline.plans[seen.data["call"]] = seen.data["tasks"]

    def _state_set(self, seen: Seen) -> None:
        stands = seen.data.get("state")
        shown = preview(stands, STATE_WIDTH) if "state" in seen.data else "a large value (--inputs has it)"
        self._mark(seen, "state", f"state: {shown}")

    def _omitted(self, seen: Seen) -> None:
        what = f", and the call is for {seen.data['optional']}" if seen.data.get("optional") else ""
        text = f"{seen.data['asked']} is not asked: the mode is {seen.data['mode']}{what}"
        self._mark(seen, "omitted", text, call=seen.data["call"])

    def _mode(self, seen: Seen) -> None:
        self._mark(seen, "mode", f"the mode is {seen.data['mode']}")

    def _rerouted(self, seen: Seen) -> None:
        note = f"instead of {seen.data['asked']}: {seen.data['reason']}"
        self._pending_notes.setdefault(seen.data["call"], []).append(note)

    def _cancel(self, seen: Seen) -> None:
        self._mark(seen, "cancel", f"asked to stop: {seen.data.get('reason', '')}".rstrip(": "))

    def _repaired(self, seen: Seen) -> None:
        """Whatever was under way stands in the kept part; what followed is asked for again."""
        data = seen.data
        self._mark(seen, "repaired", f"repaired: events {data['first']} to {data['last']} moved away: {data['reason']}")

    def _stopped(self, seen: Seen) -> None:
        self._mark(seen, "stopped", f"stopped: {seen.data['kind']}: {seen.data['message']}")

    def _restarted(self, seen: Seen) -> None:
        """Children go on; timers and waits end with their generation."""
        for call, span in list(self._open.items()):
            if span.kind != "child":
                self._close(seen, call, "left open")
        self._unclaimed = {}
        for signal in seen.data.get("signals", ()):
            self._unclaimed[signal["name"]] = self._unclaimed.get(signal["name"], 0) + 1
        self._mark(seen, "restart", f"generation {seen.data['generation']} begins")

    def _redriven(self, seen: Seen) -> None:
        """What failed is open again, and what was under way."""
        self.timeline.is_over = False
        by, calls = seen.data.get("by") or "somebody", seen.data.get("calls", ())
        for span in self.timeline.spans:
            if span.call in calls or (span.outcome == "left open" and span.kind != "child"):
                self._reopen(seen, span, is_again=span.call in calls)
        what = f"from {', '.join(calls)}" if calls else "by the code that there is now"
        why = f": {seen.data['reason']}" if seen.data.get("reason") else ""
        self._mark(seen, "redrive", f"redriven by {by}, {what}{why}")

    def _reopen(self, seen: Seen, span: Span, *, is_again: bool) -> None:
        span.end, span.outcome, span.failure = None, "pending", None
        self._open[span.call] = span
        if is_again and span.kind == "person":
            span.outcome = "with a person"
        if is_again and span.kind == "call":
            span.attempts.append(Attempt(seen.at))

    def _leave_open(self, seen: Seen) -> None:
        """Nothing goes on in a run that has ended: what nobody waited for any more is over too."""
        self.timeline.is_over = True
        for call in list(self._open):
            self._close(seen, call, "left open")

    def _end(self, seen: Seen) -> None:
        self._leave_open(seen)
        self._mark(seen, "end", f"completed at event {seen.sequence}")

    def _end_failed(self, seen: Seen) -> None:
        self._leave_open(seen)
        self._mark(seen, "failed", f"failed: {failure_text(seen.data['failure'])}")

    def _end_cancelled(self, seen: Seen) -> None:
        self._leave_open(seen)
        self._mark(seen, "cancel", f"cancelled: {seen.data.get('reason', '')}".rstrip(": "))


def _said(data: Mapping[str, Any]) -> str:
    """What a person did with a question."""
    if data.get("failure") is not None:
        return "refused"
    return "edited" if data.get("edited") else "answered"
