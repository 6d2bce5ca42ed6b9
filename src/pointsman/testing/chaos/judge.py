"""What clients were told, what agents were asked and what the log holds, side by side. Pure.

lost        an acknowledged start whose run is not in the log or has not ended well, an acknowledged signal that is not
            in it, an acknowledged result that the log does not have, or another one
repeated    an agent was asked again. After its outcome was committed: a fault. After it had ended but before that was
            recorded, or after it was interrupted: the price of at-least-once, with the same idempotency key
unsound     a hole in a stream, an epoch that goes back, two outcomes of one call, anything after the end, a signal
            twice, a result that is not the one that the steps add up to, an agent asked for what no log has
recovered   runs that were under way at a fault and ended well; how long each stood still at most: between two signs of
            life (an agent is asked, a client is answered), none counted from before the fault
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from pointsman.testing.chaos.log import Log, LoggedEvent
from pointsman.testing.chaos.records import Acknowledged, Invocation

OUTCOMES: Final = ("CallCompleted", "CallFailed", "CallSkipped")
ENDS: Final = ("RunCompleted", "RunFailed", "RunWasCancelled")


class Window(msgspec.Struct, frozen=True):
    """A fault, from when it struck to when its cause was gone (a kill: at once). Milliseconds since 1970."""

    struck_ms: float
    healed_ms: float


class Verdict(msgspec.Struct, frozen=True):
    """What was counted. Lists name the first few of what should not be there."""

    starts: int
    signals: int
    results: int
    lost: list[str]
    committed_repeated: list[str]
    ended_unrecorded_repeated: int
    interrupted_repeated: int
    stale_starts: int
    """Agents asked under an epoch although one was already asked under a later epoch of the same run."""
    unsound: list[str]
    faults: int
    under_way: int
    recovered: int
    still_p50_ms: float | None
    still_max_ms: float | None
    calls: int
    incarnations_ended: int

    @property
    def acknowledged(self) -> int:
        return self.starts + self.signals + self.results


def judge(
    acknowledged: Sequence[Acknowledged], invocations: Sequence[Invocation], log: Log, windows: Sequence[Window],
    *, result: int | None, good: Collection[str] = ("completed",),
) -> Verdict:  # fmt: skip
    """`result`: what every run must give, if that is known. `good`: statuses in which a run may end."""
    by_what = {
        what: {line.run: line for line in acknowledged if line.what == what} for what in ("start", "signal", "result")
    }
    repeated = _repeated(invocations, log)
    stood_still = _stood_still(acknowledged, invocations, windows)
    recovered = [run for run in stood_still if run in log.runs and log.runs[run].status in good]
    times = sorted(stood_still.values())
    return Verdict(
        starts=len(by_what["start"]), signals=len(by_what["signal"]), results=len(by_what["result"]),
        lost=_lost(acknowledged, log, good),
        committed_repeated=repeated[0], ended_unrecorded_repeated=repeated[1], interrupted_repeated=repeated[2],
        stale_starts=_stale_starts(invocations),
        unsound=[*_unsound(log, result), *_unknown(invocations, log)],
        faults=len(windows), under_way=len(stood_still), recovered=len(recovered),
        still_p50_ms=round(statistics.median(times), 1) if times else None,
        still_max_ms=round(times[-1], 1) if times else None,
        calls=len({line.key for line in invocations}), incarnations_ended=log.incarnations_ended,
    )  # fmt: skip


def _lost(acknowledged: Iterable[Acknowledged], log: Log, good: Collection[str]) -> list[str]:
    results = {event.run: event for event in log.events if event.type == "RunCompleted"}
    signals = {(event.run, event.key) for event in log.events if event.type == "SignalReceived"}
    lost = []
    for line in acknowledged:
        head = log.runs.get(line.run)
        if head is None:
            lost.append(f"{line.what} of {line.run}: no such run")
        elif line.what == "start" and head.status not in good:
            lost.append(f"start of {line.run}: it is {head.status}")
        elif line.what == "signal" and (line.run, f"signal:{line.value}") not in signals:
            lost.append(f"signal {line.value} of {line.run}: not in the log")
        elif line.what == "result" and not _is_logged(line.value, results.get(line.run), head.status):
            logged = results.get(line.run)
            lost.append(f"result {line.value} of {line.run}: the log has {logged and logged.output}")
    return lost


def _is_logged(value: Any, ended: LoggedEvent | None, status: str) -> bool:
    """Is what a client was told what the log has? Packed ones are not read, and a failed run has no result."""
    if ended is None:
        return value is None and status != "completed"
    return ended.is_packed or bool(value == msgspec.json.decode(ended.output or "null"))


def _repeated(invocations: Iterable[Invocation], log: Log) -> tuple[list[str], int, int]:
    """Keys asked for again after their outcome was committed, and how many others after an end, or without one.

    Told by epochs, not by clocks: a start under a later epoch than the outcome's came after a claim, and so after the
    outcome was in the log; and under one epoch an attempt starts once.
    """
    outcomes = {f"{event.run}/1/{event.call}": event.epoch for event in log.events if event.type in OUTCOMES}
    committed: dict[str, None] = {}
    after_end: set[str] = set()
    interrupted: set[str] = set()
    ended: set[str] = set()
    under_way: dict[str, tuple[int, int]] = {}
    seen: set[tuple[str, int, int]] = set()
    for line in invocations:
        at = (line.epoch, line.attempt)
        if line.event == "end":
            if under_way.get(line.key) == at:
                del under_way[line.key]
            if line.ok:
                ended.add(line.key)
            continue
        if line.epoch > outcomes.get(line.key, 2**62) or (line.key, *at) in seen:
            committed[line.key] = None
        elif line.key in ended:
            after_end.add(line.key)
        elif line.key in under_way:
            interrupted.add(line.key)
        seen.add((line.key, *at))
        under_way[line.key] = at
    return list(committed), len(after_end - committed.keys()), len(interrupted - after_end - committed.keys())


def _stale_starts(invocations: Iterable[Invocation]) -> int:
    latest: dict[str, int] = {}
    stale = 0
    for line in invocations:
        if line.event == "start":
            stale += line.epoch < latest.get(line.run, 0)
            latest[line.run] = max(line.epoch, latest.get(line.run, 0))
    return stale


def _unsound(log: Log, result: int | None) -> list[str]:
    faults = []
    for run, rows in itertools.groupby(log.events, key=lambda event: event.run):
        events = list(rows)
        faults += [f"{run}: {fault}" for fault in _of_stream(events, log.runs[run].sequence)]
        outputs = {event.output for event in events if event.type == "RunCompleted"}
        if result is not None and outputs - {str(result)}:
            faults.append(f"{run}: gave {outputs}, not {result}")
    missing = log.runs.keys() - {event.run for event in log.events}
    return faults + [f"{run}: a head without a stream" for run in sorted(missing)]


def _of_stream(events: list[LoggedEvent], head: int) -> list[str]:
    faults = []
    if [event.sequence for event in events] != list(range(1, head + 1)):
        faults.append(f"{len(events)} events, the head says {head}: they are not 1, 2, 3 …")
    if any(later.epoch < earlier.epoch for earlier, later in itertools.pairwise(events)):
        faults.append("an epoch goes back")
    if any(event.type in ENDS for event in events[:-1]):
        faults.append("something comes after the end")
    for types, what in ((OUTCOMES, "outcome of"), (("SignalReceived",), "signal")):
        names = [event.call or event.key for event in events if event.type in types]
        faults += [f"{what} {name} twice" for name in sorted({n or "" for n in names if names.count(n) > 1})]
    return faults


def _unknown(invocations: Iterable[Invocation], log: Log) -> list[str]:
    """Request-first: whatever an agent was asked for is in the log, or its run was lost, which is counted there."""
    known = {f"{event.run}/1/{event.call}" for event in log.events if event.type == "CallRequested"}
    return sorted({f"{line.key}: asked for, not in the log" for line in invocations
                   if line.key not in known and line.run in log.runs})  # fmt: skip


def _stood_still(
    acknowledged: Iterable[Acknowledged], invocations: Iterable[Invocation], windows: Sequence[Window]
) -> dict[str, float]:
    """By run that was under way at a fault: milliseconds."""
    signs: dict[str, list[float]] = {}
    started, answered = {}, {}
    for said in acknowledged:
        signs.setdefault(said.run, []).append(said.wall_ms)
        if said.what == "start":
            started[said.run] = said.wall_ms
        elif said.what == "result":
            answered[said.run] = said.wall_ms
    for line in invocations:
        if line.event == "start":
            signs.setdefault(line.run, []).append(line.wall_ms)
    found: dict[str, float] = {}
    for window in windows:
        for run, at in started.items():
            if at <= window.struck_ms < answered.get(run, float("inf")):
                after = sorted(max(sign, window.struck_ms) for sign in signs[run])
                longest = max((b - a for a, b in itertools.pairwise(after)), default=0.0)
                found[run] = max(found.get(run, 0.0), longest)
    return found
