"""Every limit and interval of a coordinator, with its unit and why it has its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pointsman.coordinator.gates.counts import GateSettings
from pointsman.kernel.execution import EVENTS_MAX


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """The limits and intervals of one coordinator. Raises ValueError if a value makes no sense.

    Attributes:
        name: unique among the living coordinators of a cluster.
        address: `host:port` of its HTTP API, for routers and people.
        lease_ttl_ms: how long it may be silent before others end it. The death of its process is noticed much sooner.
        batch_runs_max: runs in one append. 50 to 100 is the measured optimum for two lanes.
        batch_bytes_max: bytes of bodies in one append; statements over 5 MB get slower.
        runs_max: runs driven at the same time.
        memory_bytes_max: estimated bytes of driven and cached runs together; above it no more runs are claimed.
        park_after_ms: a run that waits longer than this for its next timer is given up, and claimed again when due.
        claim_poll_ms: how often to look for due runs. Hints make it faster, but may be lost; this poll is reliable.
        mail_poll_ms: how often to look for mail of driven runs. Here too, hints make it faster but may be lost.
        watch_poll_ms: how often to check runs that a client waits for and another coordinator drives.
        takeover_retry_ms: pause between attempts to claim runs that a dead incarnation's last statement still locks.
        sweep_ms: how often to look for runs that every other way missed.
        claim_batch: due runs claimed in one statement.
        takeover_batch: runs of dead incarnations claimed in one statement, so that the survivors share them.
        load_bytes_max: bytes of bodies in one answer of the store when claimed runs are read; a larger log comes in
            several answers. Two batches of claimed runs may be read at once, each with one answer and one whole run.
        takeovers_max: a run is quarantined after this many deaths of its coordinators in a row without an append of it.
        trial_ms: how long suspects of such deaths are driven before the next ones; four times as long at each death.
        trial_runs: suspects driven together after the second death; an eighth of it after each further one. Those that
            one more death would quarantine are driven alone.
        drain_s: on SIGTERM, how long calls under way may take to end before their runs are handed over. Runs without
            such calls are handed over at once.
        restart_s: how long, beyond `drain_s`, a coordinator that replaces itself has to come back; then another may.
        events_max: events in one generation of a run.
        attributes_max: attributes of one run.
        attribute_key_chars_max: characters of an attribute's key.
        attributes_bytes_max: bytes of a run's attributes together, as JSON; a page of runs has those of hundreds.
        threads_max: threads for sync agents.
        agents_poll_ms: how often to look for agents that registered, left, were switched off, or opened their breaker.
        board_ms: how often coordinators exchange their counts of agents; an open breaker is known to all this late.
        slots_idle_ms: slots of an agent's concurrency that were unused for this long are given back.
        worker_silence_ms: a worker that has not polled for this long is lost, and the calls that it held fail.
        worker_queue_max: calls of one agent that may wait for a worker here; the next one fails at once.
        worker_misses_max: a call fails after it was handed this many times to a worker with room and never arrived.
        retry_share: retries per first try of an agent, in the whole cluster, over `retry_window_s`.
        retry_floor: retries within `retry_window_s` that are always allowed.
        retry_window_s: the window of `retry_share` and `retry_floor`.
        degraded_wait_s, emergency_wait_s: the mode begins when a call waits this long for its agent (queue over rate).
        degraded_lag_s, emergency_lag_s: the mode begins when the event loop is this late.
        degraded_store_s, emergency_store_s: the mode begins when an append takes this long.
        degraded_errors, emergency_errors: the mode begins when this share of attempts fails, out of `errors_min` or
            more in `errors_window_s`.
        errors_min: with fewer attempts than this, the share of errors does not count.
        errors_window_s: the window in which attempts are counted.
        degraded_memory, emergency_memory: the mode begins when this share of `runs_max` or `memory_bytes_max` is used.
        mode_leave: a mode is left when every signal is below this share of what it takes to enter it.
        mode_stay_s: how long a mode must have lasted before it is left.
        mode_poll_ms: how often to judge the signals and read the mode.
        shed_wait_s: a new run that would wait longer than this, for agents, this process or the store, is refused.
        retention_days: runs that ended longer ago than this are deleted; 0: none is.
        retention_every_s: how often one of the coordinators looks for runs to delete.
        retention_batch: runs deleted or moved in one statement.
        retention_pause_ms: pause between two such statements.
        webhook_poll_ms: how often to look for notices to send to a webhook. A coordinator sends its own at once.
        webhook_hold_ms: while a notice is being sent, no other coordinator takes it for this long; longer than
            `webhook_timeout_s`.
        webhook_timeout_s: how long one try may take.
        webhook_give_up_h: a notice that could not be delivered for this many hours is given up.
    """

    name: str = "coordinator-1"
    address: str = ""
    lease_ttl_ms: int = 3_000
    batch_runs_max: int = 64
    batch_bytes_max: int = 1_000_000
    runs_max: int = 10_000
    memory_bytes_max: int = 512_000_000
    park_after_ms: int = 2_000
    claim_poll_ms: int = 200
    mail_poll_ms: int = 500
    watch_poll_ms: int = 100
    takeover_retry_ms: int = 50
    sweep_ms: int = 5_000
    claim_batch: int = 50
    takeover_batch: int = 25
    load_bytes_max: int = 16_000_000
    takeovers_max: int = 5
    trial_ms: int = 500
    trial_runs: int = 64
    drain_s: float = 5.0
    restart_s: float = 30.0
    events_max: int = EVENTS_MAX
    attributes_max: int = 32
    attribute_key_chars_max: int = 64
    attributes_bytes_max: int = 16_000
    threads_max: int = 32
    agents_poll_ms: int = 200
    board_ms: int = 250
    slots_idle_ms: int = 500
    worker_silence_ms: int = 3_000
    worker_queue_max: int = 10_000
    worker_misses_max: int = 10
    retry_share: float = 0.2
    retry_floor: int = 10
    retry_window_s: int = 30
    degraded_wait_s: float = 5.0
    emergency_wait_s: float = 30.0
    degraded_lag_s: float = 0.5
    emergency_lag_s: float = 2.0
    degraded_store_s: float = 0.5
    emergency_store_s: float = 2.5
    degraded_errors: float = 0.5
    emergency_errors: float = 0.9
    errors_min: int = 20
    errors_window_s: float = 10.0
    degraded_memory: float = 0.9
    emergency_memory: float = 0.98
    mode_leave: float = 0.5
    mode_stay_s: float = 10.0
    mode_poll_ms: int = 250
    shed_wait_s: float = 10.0
    retention_days: int = 0
    retention_every_s: int = 3_600
    retention_batch: int = 500
    retention_pause_ms: int = 50
    webhook_poll_ms: int = 1_000
    webhook_hold_ms: int = 30_000
    webhook_timeout_s: float = 15.0
    webhook_give_up_h: int = 72

    @property
    def gates(self) -> GateSettings:
        """The settings that concern agents' breakers and limits."""
        return GateSettings(
            board_ms=self.board_ms, idle_ms=self.slots_idle_ms, retry_share=self.retry_share,
            retry_floor=self.retry_floor, retry_window_s=self.retry_window_s,
        )  # fmt: skip

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "retention_days" and value == 0:
                continue
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{field.name}={value}: must be more than 0")
        for signal in ("wait_s", "lag_s", "store_s", "errors", "memory"):
            degraded, emergency = getattr(self, f"degraded_{signal}"), getattr(self, f"emergency_{signal}")
            if emergency < degraded:
                raise ValueError(f"emergency_{signal}={emergency}: at least degraded_{signal}, which is {degraded}")
        if self.mode_leave >= 1:
            raise ValueError(f"mode_leave={self.mode_leave}: below 1, or the mode would change to and fro")
        if self.webhook_hold_ms <= self.webhook_timeout_s * 1000:
            raise ValueError(
                f"webhook_hold_ms={self.webhook_hold_ms}: more than webhook_timeout_s={self.webhook_timeout_s:g}, or a "
                "notice is told twice at the same time"
            )
        if self.lease_ttl_ms < 500:
            raise ValueError(f"lease_ttl_ms={self.lease_ttl_ms}: at least 500, or a pause ends a healthy coordinator")
