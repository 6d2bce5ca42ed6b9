"""The numbers of one process, as plain counters that cost nothing to raise, and their Prometheus text."""

from __future__ import annotations

import resource
from bisect import bisect_left
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

LABELS_MAX = 100
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass
class Histogram:
    """Seconds, in the buckets above."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.total += seconds

    def lines(self, name: str) -> list[str]:
        out, cumulative = [], 0
        for bound, count in zip((*LATENCY_BOUNDS_S, "+Inf"), self.counts, strict=True):
            cumulative += count
            out.append(f'{name}_bucket{{le="{bound}"}} {cumulative}')
        return [*out, f"{name}_sum {self.total:.6f}", f"{name}_count {cumulative}"]


@dataclass
class GateStats:
    """Counters of one coordinator's gates. What is appended to `agent/X` is counted by who appended it.

    Attributes:
        held: calls that were not let in at once, by kind of failure.
        admitted_late: calls that were let in after a wait.
        retries_refused: by the retry budget.
        stray_bodies: what another release of Pointsman says on the board, and this one can't read.
    """

    breakers_opened: int = 0
    breakers_half_opened: int = 0
    breakers_closed: int = 0
    probes_granted: int = 0
    probes_failed: int = 0
    held: dict[str, int] = field(default_factory=dict)
    admitted_late: int = 0
    retries_refused: int = 0
    permits_granted: int = 0
    permits_handed: int = 0
    appends: int = 0
    store_errors: int = 0
    stray_bodies: int = 0


@dataclass
class WorkerStats:
    """Of the workers that come to one coordinator.

    Attributes:
        waiting, connected: calls that wait for one, and workers, by agent; brought up to date when asked for.
        lost: workers that died or fell silent.
        results_refused: of attempts that were over when they came.
    """

    waiting: dict[str, int] = field(default_factory=dict)
    connected: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    results_refused: int = 0


@dataclass
class Stats:
    """Counters of a coordinator. Raised where things happen; read by `prometheus`."""

    appends: int = 0
    appended_runs: int = 0
    append_errors: int = 0
    appends_refused: int = 0
    events: int = 0
    runs_started: int = 0
    runs_ended: dict[str, int] = field(default_factory=dict)
    runs_claimed: int = 0
    runs_taken_over: int = 0
    runs_handed_over: int = 0
    runs_quarantined: int = 0
    trials: int = 0
    takeovers: int = 0
    runs_fenced: int = 0
    runs_stopped: int = 0
    runs_redriven: int = 0
    generations_nearly_full: int = 0
    replays: int = 0
    calls_dispatched: int = 0
    calls_failed: dict[str, int] = field(default_factory=dict)
    agents_overdue: int = 0
    runs_shed: dict[str, int] = field(default_factory=dict)
    mode_changes: int = 0
    signals: dict[str, float] = field(default_factory=dict)
    runs_deleted: int = 0
    runs_moved: int = 0
    buckets_dropped: int = 0
    notices_delivered: int = 0
    notices_failed: int = 0
    notices_given_up: int = 0
    gates: GateStats = field(default_factory=GateStats)
    workers: WorkerStats = field(default_factory=WorkerStats)
    loop_lag_s: float = 0.0
    incarnations: int = 0
    http_requests: dict[str, int] = field(default_factory=dict)
    append_latency: Histogram = field(default_factory=Histogram)
    run_latency: Histogram = field(default_factory=Histogram)
    call_latency: Histogram = field(default_factory=Histogram)
    http_latency: Histogram = field(default_factory=Histogram)

    def count_run(self, status: str) -> None:
        _count(self.runs_ended, status)

    def count_call(self, kind: str | None, seconds: float) -> None:
        """An attempt ended. `kind`: of its failure, which agents may name as they like; None: it completed."""
        self.call_latency.observe(seconds)
        if kind is not None:
            _count(self.calls_failed, kind)

    @property
    def calls_ended(self) -> dict[str, int]:
        """Attempts by outcome: completed, or the kind of the failure."""
        completed = sum(self.call_latency.counts) - sum(self.calls_failed.values())
        return {"completed": completed, **self.calls_failed} if completed else dict(self.calls_failed)

    def observe_request(self, _route: str, method: str, status: int, seconds: float) -> None:
        """An HTTP request was answered."""
        _count(self.http_requests, f"{method} {status}")
        self.http_latency.observe(seconds)


def _count(counts: dict[str, int], label: str) -> None:
    """Labels that others choose must not grow without bound: what comes after the limit is counted as one."""
    if label not in counts and len(counts) >= LABELS_MAX:
        label = "other"
    counts[label] = counts.get(label, 0) + 1


class Metric(NamedTuple):
    """A metric: its type and help, the attribute of `Stats` that holds it ("": a gauge, given when asked), and what its
    label is called, if it has one."""

    name: str
    kind: str
    help: str
    attribute: str = ""
    label: str = ""


METRICS = (
    Metric("pointsman_appends_total", "counter", "Append statements that were answered.", "appends"),
    Metric(
        "pointsman_appended_runs_total",
        "counter",
        "Runs moved by those statements, children included.",
        "appended_runs",
    ),
    Metric(
        "pointsman_append_errors_total",
        "counter",
        "Appends whose reply was lost, or retries of finding out.",
        "append_errors",
    ),
    Metric(
        "pointsman_appends_refused_total",
        "counter",
        "Batches that the store refused whole, and that were halved.",
        "appends_refused",
    ),
    Metric("pointsman_events_total", "counter", "Events appended.", "events"),
    Metric("pointsman_runs_started_total", "counter", "Runs started here.", "runs_started"),
    Metric("pointsman_runs_ended_total", "counter", "Runs ended here, by status.", "runs_ended", "status"),
    Metric("pointsman_runs_claimed_total", "counter", "Unowned runs claimed.", "runs_claimed"),
    Metric("pointsman_runs_taken_over_total", "counter", "Runs claimed from dead coordinators.", "runs_taken_over"),
    Metric("pointsman_runs_handed_over_total", "counter", "Runs given to others on leaving.", "runs_handed_over"),
    Metric("pointsman_takeovers_total", "counter", "Dead coordinators whose runs were claimed here.", "takeovers"),
    Metric("pointsman_runs_fenced_total", "counter", "Runs dropped because another owner has them.", "runs_fenced"),
    Metric("pointsman_runs_stopped_total", "counter", "Runs that this code can't drive.", "runs_stopped"),
    Metric(
        "pointsman_runs_quarantined_total", "counter", "Runs held back: driving them does harm.", "runs_quarantined"
    ),
    Metric(
        "pointsman_trials_total", "counter", "Trials of runs that are suspected of ending their coordinators.", "trials"
    ),
    Metric("pointsman_runs_redriven_total", "counter", "Failed runs that were let go on.", "runs_redriven"),
    Metric(
        "pointsman_generations_nearly_full_total",
        "counter",
        "Generations at 80 % of their events.",
        "generations_nearly_full",
    ),
    Metric("pointsman_replays_total", "counter", "Runs brought back from their log.", "replays"),
    Metric("pointsman_calls_dispatched_total", "counter", "Attempts handed to agents.", "calls_dispatched"),
    Metric(
        "pointsman_calls_ended_total",
        "counter",
        "Attempts that ended, by outcome (completed or a kind of failure).",
        "calls_ended",
        "outcome",
    ),
    Metric("pointsman_agents_overdue_total", "counter", "Attempts that went on after their timeout.", "agents_overdue"),
    Metric(
        "pointsman_breakers_opened_total", "counter", "Breakers opened by this coordinator.", "gates.breakers_opened"
    ),
    Metric(
        "pointsman_breakers_closed_total", "counter", "Breakers closed by this coordinator.", "gates.breakers_closed"
    ),
    Metric("pointsman_probes_granted_total", "counter", "Probes of half-open breakers.", "gates.probes_granted"),
    Metric("pointsman_probes_failed_total", "counter", "Probes that failed or never ended.", "gates.probes_failed"),
    Metric("pointsman_calls_held_total", "counter", "Calls that had to wait for their agent.", "gates.held", "reason"),
    Metric("pointsman_retries_refused_total", "counter", "Retries against the retry budget.", "gates.retries_refused"),
    Metric("pointsman_worker_calls_waiting", "gauge", "Calls that wait for a worker.", "workers.waiting", "agent"),
    Metric("pointsman_workers_connected", "gauge", "Workers that come here.", "workers.connected", "agent"),
    Metric("pointsman_workers_lost_total", "counter", "Workers that died or fell silent.", "workers.lost"),
    Metric(
        "pointsman_worker_results_refused_total",
        "counter",
        "Results of attempts that were over when they came.",
        "workers.results_refused",
    ),
    Metric("pointsman_runs_deleted_total", "counter", "Ended runs that retention deleted.", "runs_deleted"),
    Metric("pointsman_runs_moved_total", "counter", "Runs that retention moved to the current bucket.", "runs_moved"),
    Metric("pointsman_buckets_dropped_total", "counter", "Buckets that retention dropped.", "buckets_dropped"),
    Metric("pointsman_notices_delivered_total", "counter", "Notices that the webhook took.", "notices_delivered"),
    Metric("pointsman_notices_failed_total", "counter", "Tries of a notice that failed.", "notices_failed"),
    Metric("pointsman_notices_given_up_total", "counter", "Notices that are told no more.", "notices_given_up"),
    Metric("pointsman_incarnations_total", "counter", "Registrations of this process.", "incarnations"),
    Metric("pointsman_runs_active", "gauge", "Runs driven now."),
    Metric("pointsman_runs_cached", "gauge", "Waiting runs kept in memory."),
    Metric("pointsman_calls_active", "gauge", "Attempts under way."),
    Metric("pointsman_append_queue_depth", "gauge", "Appends that wait for their lane."),
    Metric("pointsman_loop_lag_seconds", "gauge", "How late the event loop last was."),
    Metric("pointsman_memory_bytes", "gauge", "Peak resident memory of the process."),
    Metric("pointsman_ready", "gauge", "1 when it takes work."),
    Metric("pointsman_mode", "gauge", "The cluster's mode: 0 full, 1 degraded, 2 emergency."),
    Metric("pointsman_mode_signal", "gauge", "What was measured last, by signal.", "signals", "signal"),
    Metric("pointsman_mode_changes_total", "counter", "Changes of the mode that this one measured.", "mode_changes"),
    Metric("pointsman_runs_shed_total", "counter", "New runs refused for too much to do.", "runs_shed", "reason"),
    Metric("pointsman_append_duration_seconds", "histogram", "Of append statements.", "append_latency"),
    Metric(
        "pointsman_run_duration_seconds", "histogram", "From start to end of the runs that ended here.", "run_latency"
    ),
    Metric("pointsman_call_duration_seconds", "histogram", "Of attempts.", "call_latency"),
    Metric("pointsman_http_requests_total", "counter", "Requests, by method and status.", "http_requests", "answer"),
    Metric("pointsman_http_request_duration_seconds", "histogram", "Of requests, waits included.", "http_latency"),
)
"""Every metric of a coordinator."""


def prometheus(stats: Stats, gauges: dict[str, float]) -> str:
    """Prometheus text format 0.0.4. `gauges` by the full metric name."""
    gauges = {
        "pointsman_loop_lag_seconds": stats.loop_lag_s,
        "pointsman_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **gauges,
    }
    out: list[str] = []
    for metric in METRICS:
        out += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        value = attrgetter(metric.attribute)(stats) if metric.attribute else gauges.get(metric.name, 0)
        if isinstance(value, Histogram):
            out += value.lines(metric.name)
        elif isinstance(value, dict):
            out += [f'{metric.name}{{{metric.label}="{_escape(key)}"}} {n}' for key, n in sorted(value.items())]
        else:
            out.append(f"{metric.name} {value:g}" if isinstance(value, float) else f"{metric.name} {value}")
    return "\n".join(out) + "\n"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
