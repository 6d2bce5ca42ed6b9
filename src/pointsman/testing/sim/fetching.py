"""What must be true of calls that workers fetch. Each checker reads the evidence alone, and can fail (tested)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from pointsman.kernel import events as ev
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.journal import Shift


def results_are_of_their_attempt(evidence: Evidence) -> Iterator[str]:
    """What is recorded of a call came of the attempt that the log waited for, not of one before."""
    shifts = _by_call(evidence.shifts)
    by_coordinators = {(made.run, made.call, made.attempt) for made in evidence.invocations if not made.at_worker}
    for run in evidence.streams if shifts else ():
        for event in evidence.events(run):
            if not isinstance(event, ev.CallCompleted) or (run, event.call) not in shifts:
                continue
            if (run, event.call, event.attempt) in by_coordinators:
                continue  # a fallback's
            said = bytes(event.output)
            came = sorted({shift.made.attempt for shift in shifts[run, event.call] if shift.output == said})
            if event.attempt not in came:
                yield f"{run}: {event.call}: {said[:60]!r} is recorded of attempt {event.attempt}, and came of {came}"


def one_worker_an_attempt(evidence: Evidence) -> Iterator[str]:
    """Under one owner an attempt is at one worker at a time."""
    for (run, call), shifts in _by_call(evidence.shifts).items():
        shifts.sort(key=lambda shift: (shift.made.key, shift.made.attempt, shift.made.epoch, shift.made.at_s))
        for before, after in pairwise(shifts):
            ours, theirs = before.made, after.made
            is_same = (ours.attempt, ours.epoch, ours.key) == (theirs.attempt, theirs.epoch, theirs.key)
            if is_same and theirs.at_s < before.ended_at:
                yield (
                    f"{run}: {call} attempt {ours.attempt} began on {theirs.node} at {theirs.at_s:.3f} s while "
                    f"{ours.node} was at it (from {ours.at_s:.3f} to {before.ended_at:.3f} s), in epoch {ours.epoch}"
                )


def nothing_is_left_lying(evidence: Evidence) -> Iterator[str]:
    """When everything has ended, no coordinator has a call laid out, and no worker is at one."""
    yield from evidence.left_over


def _by_call(shifts: Sequence[Shift]) -> dict[tuple[str, str], list[Shift]]:
    out: dict[tuple[str, str], list[Shift]] = {}
    for shift in shifts:
        out.setdefault((shift.made.run, shift.made.call), []).append(shift)
    return out
