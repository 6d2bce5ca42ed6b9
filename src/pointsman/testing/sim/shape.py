"""What a schedule is like, drawn from its seed: how many coordinators and runs, how long, with which settings.

Most are small, with hints as the normal way and long polls behind them, so that ten thousand are done in minutes. A
share polls often, so that no race hides behind a rare poll, and a share has production's own settings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.testing.sim.webhook import HOLD_MS, POLL_MS, TIMEOUT_S

PROFILES = ("hinted",) * 9 + ("polled",) * 2 + ("production",)
WEBHOOK = {"webhook_poll_ms": POLL_MS, "webhook_hold_ms": HOLD_MS, "webhook_timeout_s": TIMEOUT_S}
LOAD_BYTES_MAX = 400
"""Of those that poll often: so small that the log of nearly every run that is claimed comes in several answers."""
RETENTION = {"retention_days": 1, "retention_every_s": 1, "retention_batch": 2, "retention_pause_ms": 10}


@dataclass(frozen=True)
class Shape:
    """The dimensions and settings of one schedule.

    Attributes:
        span_s: virtual seconds in which faults begin.
        waits_for_budgets: the schedule goes on until every tranche has come back.
        replays: prefixes of each run that are replayed, beside the whole.
        ages: when everything is well again, nine days pass, and what ended before is deleted.
        has_webhook: somebody is told of human tasks.
    """

    profile: str
    nodes: int
    runs: int
    span_s: float
    waits_for_budgets: bool
    replays: int
    ages: bool = False
    has_webhook: bool = False

    @property
    def ttl_s(self) -> float:
        return self.settings("any").lease_ttl_ms / 1000

    @property
    def healed_s(self) -> float:
        """Virtual seconds after healing within which every run must have ended: many lease terms and sweeps."""
        return 20.0 + 5 * self.ttl_s

    def settings(self, name: str) -> CoordinatorSettings:
        """As in production, with intervals so short that a few virtual seconds hold a whole takeover."""
        more: dict[str, Any] = {**(RETENTION if self.ages else {}), **(WEBHOOK if self.has_webhook else {})}
        if self.profile == "production":
            return CoordinatorSettings(name=name, address=name, **more)
        if self.profile == "polled":
            return CoordinatorSettings(
                name=name, address=name, lease_ttl_ms=500, park_after_ms=150, claim_poll_ms=100, mail_poll_ms=200,
                watch_poll_ms=100, sweep_ms=500, claim_batch=3, drain_s=0.3, runs_max=8, agents_poll_ms=400,
                board_ms=300, takeovers_max=4, trial_ms=150, worker_silence_ms=1_000,
                load_bytes_max=LOAD_BYTES_MAX, **more,
            )  # fmt: skip
        return CoordinatorSettings(
            name=name, address=name, lease_ttl_ms=500, park_after_ms=150, claim_poll_ms=400, mail_poll_ms=500,
            watch_poll_ms=300, sweep_ms=900, claim_batch=3, drain_s=0.3, runs_max=8, agents_poll_ms=1_500,
            board_ms=1_000, takeovers_max=4, trial_ms=150, worker_silence_ms=1_000, **more,
        )  # fmt: skip


def draw(rng: random.Random, *, nodes_max: int) -> Shape:
    """The shape of one schedule. `nodes_max`: coordinators that its store may have at a time."""
    profile = rng.choice(PROFILES)
    is_large = profile == "production" or rng.random() < 0.05
    ages = rng.random() < 0.08
    return Shape(
        profile=profile, nodes=min(rng.choice((2, 2, 3)), nodes_max),
        runs=rng.randrange(7, 11) if is_large else rng.randrange(3, 5),
        span_s=3.0 if is_large else 1.0, waits_for_budgets=is_large or ages or rng.random() < 0.15,
        replays=2 if is_large else 1, ages=ages, has_webhook=rng.random() < 0.3,
    )  # fmt: skip
