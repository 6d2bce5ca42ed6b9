"""The plan of failures: which calls fail and how, how long each takes, which agent is down, when somebody is killed.

What a call meets is decided by a hash of (seed, ticket, agent, attempt) and by nothing else, so every system meets the
same plan, however it interleaves its calls and however often it repeats one.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any, Final

import msgspec

from benchmarks.triage.data import Ticket

KINDS: Final = (
    "malformed_output", "invalid_output", "timeout", "exception", "refused", "output_too_large", "context_overflow",
    "rate_limited",
)  # fmt: skip
"""As the failure chain names them (`kernel/policy/failures.py`)."""
DOWN: Final = "unreachable"
TRIAGE: Final = "triage"
_NORMAL: Final = NormalDist()


class Fate(msgspec.Struct, frozen=True):
    """What one attempt meets: `kind` None is success. `seconds`: how long the agent has it."""

    kind: str | None
    seconds: float


class Plan(msgspec.Struct, frozen=True):
    """Attributes:
    fails: share of attempts that fail, by all kinds alike.
    median_s, p99_s: of the lognormal time that an attempt takes. longest_s: it is cut there, below the timeout, so
        that only the attempts that the plan says time out.
    timeout_s: of every agent; an attempt that times out takes that long.
    retry_after_s: what an agent that is asked too often wants.
    down_agent, down_after_s, down_for_s: who is down, from when after the start of a system's load, and how long.
    kill_at: the process that does most is killed when this share of the tickets is done.
    retry_base_s, retry_attempts: of every agent; the wait doubles, and moves by a tenth at random.
    """

    seed: int = 7
    fails: float = 0.08
    median_s: float = 0.3
    p99_s: float = 2.0
    longest_s: float = 2.8
    timeout_s: float = 3.0
    retry_after_s: float = 0.5
    down_agent: str = "cash"
    down_after_s: float = 3.0
    down_for_s: float = 20.0
    kill_at: float = 0.4
    retry_base_s: float = 0.2
    retry_attempts: int = 3

    def fate(self, row: int, agent: str, attempt: int) -> Fate:
        """What an attempt (from 1, over all agents that had the call) meets while the agent is up."""
        digest = hashlib.blake2b(f"{self.seed}|{row}|{agent}|{attempt}".encode(), digest_size=16).digest()
        chance, speed = (_share(digest[:8]), _share(digest[8:]))
        kind = KINDS[int(chance / self.fails * len(KINDS))] if chance < self.fails else None
        if kind == "timeout":
            return Fate(kind, self.timeout_s)
        if kind == "rate_limited":
            return Fate(kind, 0.0)  # said at the door
        sigma = math.log(self.p99_s / self.median_s) / _NORMAL.inv_cdf(0.99)
        return Fate(kind, min(self.median_s * math.exp(sigma * _NORMAL.inv_cdf(speed)), self.longest_s))

    def is_down(self, agent: str, since_start_s: float) -> bool:
        return agent == self.down_agent and 0 <= since_start_s - self.down_after_s < self.down_for_s

    def describe(self, tickets: Iterable[Ticket]) -> dict[str, Any]:
        """The plan, and what it holds for the first attempts of these tickets' two calls."""
        fates = [
            self.fate(ticket.row, agent, 1) for ticket in tickets for agent in (TRIAGE, ticket.specialist)
        ]  # fmt: skip
        seconds = sorted(fate.seconds for fate in fates if fate.kind not in ("timeout", "rate_limited"))
        kinds = Counter(fate.kind for fate in fates if fate.kind is not None)
        return {
            **msgspec.structs.asdict(self),
            "first_attempts": {
                "calls": len(fates),
                "failing": sum(kinds.values()),
                "by_kind": {kind: kinds[kind] for kind in KINDS},
                "latency_s": {
                    "p50": round(seconds[len(seconds) // 2], 3),
                    "p99": round(seconds[int(len(seconds) * 0.99)], 3),
                },
            },
        }


def _share(eight: bytes) -> float:
    """A number in (0, 1)."""
    return ((int.from_bytes(eight) >> 12) + 0.5) / 2**52
