"""From what one kill left behind to figures. Pure.

A call was repeated when the journal has its start under a later epoch. Whether that is a fault is told by the event
log: an outcome that was committed must never be asked for again; a call that had ended in the dead process while its
outcome was not yet recorded is asked for again, with the same idempotency key, and stands apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from benchmarks.meter import percentiles
from pointsman.demo.counting import completed_calls_repeated, takeover_ms
from pointsman.demo.faults import Victim
from pointsman.demo.journal import Line, count

ORPHANS_SHARE_MIN: Final = 0.25
"""Of three coordinators the one with most runs has a third of them; with less than this the kill says little."""
LIMITS_MS: Final[dict[int, dict[str, float]]] = {
    200: {"p50_ms": 250.0, "p99_ms": 1_000.0},
    2_000: {"last_ms": 3_000.0},
}
"""By the number of runs: what each time must stay below."""
TIMES: Final = ("first_ms", "p50_ms", "p99_ms", "last_ms")
FAULTS: Final = ("lost", "never_resumed", "committed_calls_repeated")
"""What may not happen once. Summed over the samples, as everything counted is, so that no median hides one."""
COUNTED: Final = (*FAULTS, "ended_unrecorded_repeated", "interrupted_repeated")


class FiguresDoNotAddUp(Exception):
    """No run was lost, and yet journal and event log tell of different calls: the figures would say nothing. The event
    log or the journal is read wrongly; compare the keys that the message names."""


class CallOutcome(msgspec.Struct, frozen=True):
    """A call's outcome as the event log has it. `at`: milliseconds since 1970, by the database's clock."""

    run: str
    call: str
    epoch: int
    at: int

    @property
    def key(self) -> str:
        """The call's idempotency key: these runs have one generation."""
        return f"{self.run}/1/{self.call}"


class Seen(msgspec.Struct, frozen=True):
    """What one kill left behind. `runs` runs of `steps` calls were on their way; `statuses` counts them at the end."""

    runs: int
    steps: int
    kill: Victim
    statuses: dict[str, int]
    lines: list[Line]
    outcomes: list[CallOutcome]
    seconds: float = 0.0


def of_sample(seen: Seen) -> dict[str, Any]:
    """One sample. Times are milliseconds from just before the SIGKILL to an orphan's first dispatch or outcome by its
    new owner; None when no orphan had one.

    Raises:
        FiguresDoNotAddUp
    """
    orphans = seen.kill.orphans
    times = _takeovers_ms(seen)
    recorded = {outcome.key: outcome.epoch for outcome in seen.outcomes}
    counted = count(seen.lines)
    lost = seen.runs - seen.statuses.get("completed", 0)
    if not lost:
        _check(counted.agents, {line.key for line in seen.lines}, recorded.keys(), seen.runs * seen.steps)
    committed = completed_calls_repeated(seen.lines, recorded)
    ended = counted.repeated_after_end - committed
    interrupted = counted.repeated.keys() - committed - ended
    first, p50, p99, last = percentiles(times, 0, 50, 99, 100) if times else (None,) * len(TIMES)
    return {
        "orphans": len(orphans),
        **{name: _rounded(value) for name, value in zip(TIMES, (first, p50, p99, last), strict=True)},
        "lost": lost,
        "never_resumed": len(orphans) - len(times),
        "committed_calls_repeated": len(committed),
        "ended_unrecorded_repeated": len(ended),
        "interrupted_repeated": len(interrupted),
    }


def _takeovers_ms(seen: Seen) -> list[float]:
    """As the demo's drill measures it: a takeover has one definition."""
    epochs = seen.kill.orphans
    firsts: dict[tuple[str, int], float] = {}
    for outcome in seen.outcomes:
        run, epoch = outcome.run, epochs.get(outcome.run)
        if epoch is not None and outcome.epoch > epoch:
            firsts[run, epoch] = min(firsts.get((run, epoch), outcome.at), outcome.at)
    return takeover_ms([seen.kill], seen.lines, firsts)


def _check(agents: dict[str, int], started: set[str], recorded: Any, calls: int) -> None:
    """Without this, a key that is written differently in one of the two places would read as "nothing repeated"."""
    odd = sorted(started ^ set(recorded))
    if odd or len(started) != calls:
        raise FiguresDoNotAddUp(
            f"{calls} calls expected, {len(started)} in the journal ({agents}), {len(recorded)} in the event log;"
            f" in one of both only: {', '.join(odd[:3]) or 'none'}"
        )


def of_all(samples: Sequence[dict[str, Any]], runs: int) -> dict[str, Any]:
    """All samples: medians of the times and of the orphans, sums of what is counted."""
    timed: dict[str, list[float]] = {
        name: [sample[name] for sample in samples if sample[name] is not None] for name in TIMES
    }
    return {
        "runs": runs,
        "orphans": statistics.median_low(sample["orphans"] for sample in samples),
        **{name: _rounded(statistics.median(values)) if values else None for name, values in timed.items()},
        **{name: sum(sample[name] for sample in samples) for name in COUNTED},
    }


def bars(figures: dict[str, Any], samples: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each with what is wanted, what was measured, and whether it holds. Orphans: of the sample with fewest."""
    runs = figures["runs"]
    said: dict[str, dict[str, Any]] = {}
    for name, limit in LIMITS_MS.get(runs, {}).items():
        value = figures[name]
        said[name] = {"measured": value, "wanted": f"< {limit:g}", "holds": value is not None and value < limit}
    fewest, wanted = min(sample["orphans"] for sample in samples), int(runs * ORPHANS_SHARE_MIN)
    said["orphans"] = {"measured": fewest, "wanted": f">= {wanted}", "holds": fewest >= wanted}
    for name in FAULTS:
        said[name] = {"measured": figures[name], "wanted": "0", "holds": figures[name] == 0}
    return said


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
