"""Every limit and interval of a coordinator, with its unit and why it has its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pointsman.coordinator.gates.counts import GateSettings
from pointsman.kernel.execution import EVENTS_MAX


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """Raises ValueError when a value makes no sense.

    Attributes:
        name: unique among the living coordinators of a cluster.
        address: `host:port` of its HTTP API, for routers and people.
        lease_ttl_ms: how long it may be silent before others end it. Process death is noticed much sooner.
        batch_runs_max: runs in one append. 50 to 100 is the measured optimum for two lanes.
        batch_bytes_max: bytes of bodies in one append; statements over 5 MB get slower.
        runs_max: runs driven at the same time.
        memory_bytes_max: estimated bytes of driven and cached runs together; beyond it nothing more is claimed.
        park_after_ms: a run that waits longer than this for its next timer is given up and claimed when it is due.
        claim_poll_ms: how often to look for due runs; hints make it faster, and this is what can be relied on.
        mail_poll_ms: how often to look for mail of driven runs; likewise.
        watch_poll_ms: how often to look after runs that a client waits for and another coordinator drives.
        takeover_retry_ms: pause between attempts to claim what a dead incarnation's last statement still holds.
        sweep_ms: how often to look for what every other way missed.
        claim_batch: due runs claimed in one statement.
        takeover_batch: runs of the dead claimed in one statement: survivors share them in portions of this size.
        load_bytes_max: bytes of bodies that one answer of the store may have when claimed runs are read; a larger log
            comes in several. Of claimed runs two batches may be on their way, each with one answer and one whole run.
        takeovers_max: a run whose coordinators died so many times in a row, without an append of it, is quarantined.
        trial_ms: how long suspects of such deaths are driven before the next ones; four times as long at each death.
        trial_runs: suspects that are driven together after the second death; an eighth at each further one, and those
            that one more would quarantine alone.
        drain_s: on SIGTERM, seconds for calls under way to end before their runs are handed over. Runs without one are
            handed over at once.
        restart_s: a coordinator that replaces itself has so long, beyond `drain_s`, until it is back; then another may.
        events_max: events in one generation of a run.
        attributes_max: attributes of one run.
        attribute_key_chars_max: characters of an attribute's key.
        attributes_bytes_max: bytes of a run's attributes together, as JSON: a page of runs has those of hundreds.
        threads_max: threads for sync agents.
        agents_poll_ms: how often to look for agents that registered, left, were switched off, or opened their breaker.
        board_ms: how often coordinators tell each other what they counted of agents: so late is an open breaker known.
        slots_idle_ms: slots of an agent's concurrency that nobody used for so long are given back.
        worker_silence_ms: a worker without a poll for so long is lost, and what it held has failed.
        worker_queue_max: calls of one agent that may wait for a worker here; the next fails at once.
        worker_misses_max: a call handed so often to a worker with room for it, and that never arrived, has failed.
        retry_share: retries per first try of an agent, in the whole cluster, over `retry_window_s` seconds.
        retry_floor: so many retries within that window are always allowed.
        retry_window_s: the window of both.
        degraded_wait_s, emergency_wait_s: seconds that a call waits for its agent, queue over rate; the mode by it.
        degraded_lag_s, emergency_lag_s: seconds that the event loop is late.
        degraded_store_s, emergency_store_s: seconds that an append takes.
        degraded_errors, emergency_errors: share of attempts that fail, of `errors_min` or more in `errors_window_s`.
        errors_min: fewer attempts than that say nothing.
        errors_window_s: of so many seconds the attempts count.
        degraded_memory, emergency_memory: share of `runs_max` or `memory_bytes_max` that is taken.
        mode_leave: a mode is left when every signal is below this share of what it takes to enter it.
        mode_stay_s: and when it has lasted so long.
        mode_poll_ms: how often the signals are judged, and the mode is read.
        shed_wait_s: new runs are refused that would wait longer than that, for agents, this process or the store.
        retention_days: runs that ended longer ago are deleted; 0: none ever is.
        retention_every_s: how often one of the coordinators looks for them.
        retention_batch: runs deleted or moved in one statement.
        retention_pause_ms: rest between two such statements.
        webhook_poll_ms: how often to look for notices that a webhook is to be told of; its own it tells at once.
        webhook_hold_ms: a notice that is being told is nobody else's for so long; longer than `webhook_timeout_s`.
        webhook_timeout_s: of one try.
        webhook_give_up_h: hours after which a notice that nobody took is not told any more.
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
