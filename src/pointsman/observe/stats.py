"""The numbers of one process, as plain counters that cost nothing to raise, and their Prometheus text."""

from __future__ import annotations

import resource
from bisect import bisect_left
from dataclasses import dataclass, field

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """Seconds, in the buckets above."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, labels: str = "") -> list[str]:
        out, cumulative = [], 0
        comma = f"{labels}," if labels else ""
        for bound, count in zip((*LATENCY_BOUNDS_S, "+Inf"), self.counts, strict=True):
            cumulative += count
            out.append(f'{name}_bucket{{{comma}le="{bound}"}} {cumulative}')
        braces = f"{{{labels}}}" if labels else ""
        return [*out, f"{name}_sum{braces} {self.total:.6f}", f"{name}_count{braces} {cumulative}"]


@dataclass
class Stats:
    """Counters of a coordinator. Raised where things happen; read by `prometheus`."""

    appends: int = 0
    appended_runs: int = 0
    append_errors: int = 0
    events: int = 0
    runs_started: int = 0
    runs_ended: dict[str, int] = field(default_factory=dict)
    runs_claimed: int = 0
    runs_taken_over: int = 0
    takeovers: int = 0
    runs_fenced: int = 0
    runs_stopped: int = 0
    replays: int = 0
    calls_dispatched: int = 0
    calls_ended: dict[str, int] = field(default_factory=dict)
    agents_overdue: int = 0
    loop_lag_s: float = 0.0
    incarnations: int = 0
    run_latency: Histogram = field(default_factory=Histogram)
    call_latency: Histogram = field(default_factory=Histogram)

    def count_run(self, status: str) -> None:
        self.runs_ended[status] = self.runs_ended.get(status, 0) + 1

    def count_call(self, outcome: str) -> None:
        self.calls_ended[outcome] = self.calls_ended.get(outcome, 0) + 1


METRICS: dict[str, tuple[str, str]] = {
    "pointsman_appends_total": ("counter", "Append statements that were answered."),
    "pointsman_appended_runs_total": ("counter", "Runs moved by those statements, children included."),
    "pointsman_append_errors_total": ("counter", "Appends whose reply was lost, or retries of finding out."),
    "pointsman_events_total": ("counter", "Events appended."),
    "pointsman_runs_started_total": ("counter", "Runs started here."),
    "pointsman_runs_ended_total": ("counter", "Runs ended here, by status."),
    "pointsman_runs_claimed_total": ("counter", "Unowned runs claimed."),
    "pointsman_runs_taken_over_total": ("counter", "Runs claimed from dead coordinators."),
    "pointsman_takeovers_total": ("counter", "Dead coordinators whose runs were claimed here."),
    "pointsman_runs_fenced_total": ("counter", "Runs dropped because another owner has them."),
    "pointsman_runs_stopped_total": ("counter", "Runs that this code can't drive."),
    "pointsman_replays_total": ("counter", "Runs brought back from their log."),
    "pointsman_calls_dispatched_total": ("counter", "Attempts handed to agents."),
    "pointsman_calls_ended_total": ("counter", "Attempts that ended, by outcome (completed or a kind of failure)."),
    "pointsman_agents_overdue_total": ("counter", "Attempts that went on after their timeout."),
    "pointsman_incarnations_total": ("counter", "Registrations of this process."),
    "pointsman_runs_active": ("gauge", "Runs driven now."),
    "pointsman_runs_cached": ("gauge", "Waiting runs kept in memory."),
    "pointsman_calls_active": ("gauge", "Attempts under way."),
    "pointsman_append_queue_depth": ("gauge", "Appends that wait for their lane."),
    "pointsman_loop_lag_seconds": ("gauge", "How late the event loop last was."),
    "pointsman_memory_bytes": ("gauge", "Peak resident memory of the process."),
    "pointsman_ready": ("gauge", "1 when it takes work."),
    "pointsman_run_duration_seconds": ("histogram", "From start to end of the runs that ended here."),
    "pointsman_call_duration_seconds": ("histogram", "Of attempts."),
}
"""Every metric of a coordinator: its type and help."""


def prometheus(stats: Stats, gauges: dict[str, float]) -> str:
    """Prometheus text format 0.0.4. `gauges` by the full metric name."""
    gauges = {
        "pointsman_loop_lag_seconds": stats.loop_lag_s,
        "pointsman_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **gauges,
    }
    out: list[str] = []
    for name, (kind, help_text) in METRICS.items():
        out += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        if kind == "gauge":
            out.append(f"{name} {gauges.get(name, 0):g}")
        elif kind == "histogram":
            short = "run_latency" if "run_duration" in name else "call_latency"
            out += getattr(stats, short).lines(name)
        else:
            value = getattr(stats, name.removeprefix("pointsman_").removesuffix("_total"))
            if isinstance(value, dict):
                label = "status" if "runs" in name else "outcome"
                out += [f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(value.items())]
            else:
                out.append(f"{name} {value}")
    return "\n".join(out) + "\n"
