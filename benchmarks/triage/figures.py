"""The same figures for every system, from what became of each of its tickets."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.meter import percentiles
from benchmarks.triage.data import Ticket

SAVED_BY = ("retry", "fallback", "person")
ANSWERED_SHARE_MIN = 0.98
SERVED_SHARE_MIN = 0.999
TICKETS_PER_MIN_MIN = 20_000
OVERHEAD_MS_P99_MAX = 250
ORPHANS_OVERHEAD_MS_P99_MAX = 1_000
ACCURACY_MIN = 0.8


class Outcome(msgspec.Struct, frozen=True):
    """What became of one ticket; see `ledger.Account`. `latency_s` from its arrival to its answer; None without one."""

    ticket: Ticket
    status: str
    saved_by: str = ""
    latency_s: float | None = None
    agent_s: float = 0.0
    waits_s: float = 0.0
    named: str = ""
    is_orphan: bool = False

    @property
    def overhead_ms(self) -> float:
        """Latency less agent time less scheduled waits. Sleeps end within a millisecond, so it can be just below 0."""
        return ((self.latency_s or 0.0) - self.agent_s - self.waits_s) * 1000


def summary(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """One system's figures. `seconds`: from the first arrival to the last end. Overhead is of all but orphans; the rate
    is of the tickets that came to an end, whichever."""
    statuses = Counter(outcome.status for outcome in outcomes)
    saved = Counter(outcome.saved_by for outcome in outcomes)
    timed = [outcome for outcome in outcomes if outcome.latency_s is not None]
    named = [outcome for outcome in outcomes if not outcome.ticket.is_fitted_on and outcome.status != "lost"]
    right = sum(outcome.named == outcome.ticket.specialist for outcome in named)
    return {
        "tickets": len(outcomes),
        "answered": statuses["answered"],
        "static": statuses["static"],
        "with_person": statuses["with_person"],
        "failed": statuses["failed"],
        "lost": statuses["lost"],
        "tickets_per_min": round((len(outcomes) - statuses["lost"]) / seconds * 60) if seconds else 0,
        "latency_s": _p50_p99([outcome.latency_s or 0.0 for outcome in timed], 3),
        "overhead_ms": _p50_p99([outcome.overhead_ms for outcome in timed if not outcome.is_orphan], 1),
        "saved_by": {way: saved[way] for way in SAVED_BY},
        "selection_accuracy": round(right / len(named), 4) if named else None,
    }


def orphans(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The tickets whose coordinator was killed, apart: their overhead holds the takeover."""
    mine = [outcome for outcome in outcomes if outcome.is_orphan]
    timed = [outcome for outcome in mine if outcome.latency_s is not None]
    return {
        "tickets": len(mine),
        "answered": sum(outcome.status == "answered" for outcome in mine),
        "overhead_ms": _p50_p99([outcome.overhead_ms for outcome in timed], 1),
    }


def bars(system: dict[str, Any], of_orphans: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each with what is wanted, what was measured, and whether it holds."""
    tickets = system["tickets"]
    served = (system["answered"] + system["with_person"]) / tickets
    wanted = {
        "answered_share": (system["answered"] / tickets, ">=", ANSWERED_SHARE_MIN),
        "answered_or_with_person_share": (served, ">", SERVED_SHARE_MIN),
        "lost": (system["lost"], "<=", 0),
        "tickets_per_min": (system["tickets_per_min"], ">=", TICKETS_PER_MIN_MIN),
        "overhead_ms_p99": (system["overhead_ms"]["p99"], "<=", OVERHEAD_MS_P99_MAX),
        "orphans_overhead_ms_p99": (of_orphans["overhead_ms"]["p99"], "<=", ORPHANS_OVERHEAD_MS_P99_MAX),
        "selection_accuracy": (system["selection_accuracy"], ">=", ACCURACY_MIN),
        **{f"saved_by_{way}": (system["saved_by"][way], ">", 0) for way in SAVED_BY},
    }
    return {
        name: {"measured": value, "wanted": f"{sign} {limit}", "holds": _holds(value, sign, limit)}
        for name, (value, sign, limit) in wanted.items()
    }


def _holds(value: float | None, sign: str, limit: float) -> bool:
    if value is None:
        return False
    return value <= limit if sign == "<=" else value >= limit if sign == ">=" else value > limit


def _p50_p99(values: list[float], digits: int) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    p50, p99 = percentiles(values, 50, 99)
    return {"p50": round(p50, digits), "p99": round(p99, digits)}


def machine() -> dict[str, Any]:
    """What it ran on, as far as Linux says."""
    info = _read("/proc/cpuinfo")
    memory = _read("/proc/meminfo").partition("MemTotal:")[2].split()
    return {
        "cores": os.cpu_count(),
        "cpu": next((line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), ""),
        "memory_gb": round(int(memory[0]) / 2**20, 1) if memory else None,
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
