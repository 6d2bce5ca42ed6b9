"""A plan of failures by hand."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.triage.plan import Fate, Plan


class ByHand(Plan, frozen=True, kw_only=True):
    """Fates by (agent, attempt), success for the rest; an attempt takes `took_s`."""

    fates: Mapping[tuple[str, int], str]
    took_s: float = 0.5

    def fate(self, row: int, agent: str, attempt: int) -> Fate:
        kind = self.fates.get((agent, attempt))
        return Fate(kind, {"timeout": self.timeout_s, "rate_limited": 0.0}.get(kind or "", self.took_s))
