"""One schedule at work on a cluster: the load, the faults, the wait for the end, the verdict, and what must hold.

Must not know what the fault is.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from pointsman.cluster import ClusterFailed
from pointsman.testing.chaos.judge import Verdict, Window, judge
from pointsman.testing.chaos.load import Load, Wanted
from pointsman.testing.chaos.log import read_log
from pointsman.testing.chaos.own import OwnSite
from pointsman.testing.chaos.records import Acknowledged, Invocation, now_ms, read
from pointsman.testing.chaos.schedule import Schedule
from pointsman.testing.chaos.site import NotWhole, Owner, Site


class Check(msgspec.Struct, frozen=True):
    """Something that must hold, and what was measured of it."""

    name: str
    holds: bool
    measured: str


class Report(msgspec.Struct, frozen=True):
    """What came of a schedule. `facts`: what it counted beside the verdict; `refused`: what clients saw that was no
    success, and tried again."""

    schedule: str
    rounds: int
    seconds: float
    verdict: Verdict
    refused: dict[str, int]
    facts: dict[str, Any]
    checks: list[Check]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


class Drill:
    """`await run()` once. What a schedule may use is below "for schedules".

    Attributes:
        rounds: how many times the fault is to strike. pause_s: seconds of load before each.
        facts: a schedule adds what it counted. prefix: of the ids of its runs.
        is_whole: afterwards: others may use the site.
        damaged: runs whose log a schedule has changed by hand: they are not judged as the others are.
    """

    def __init__(
        self, schedule: Schedule, site: Site, *, rounds: int, pause_s: float, wanted: Wanted | None = None
    ) -> None:  # fmt: skip
        self.site = site
        self.rounds = rounds
        self.pause_s = pause_s
        self.facts: dict[str, Any] = {}
        self.damaged: set[str] = set()
        self.is_whole = not schedule.must_lose
        self._wanted = wanted or Wanted.drill(schedule.work)
        self._schedule = schedule
        self.prefix = f"{schedule.name}-{os.urandom(3).hex()}"
        self._ledger = site.directory / f"{self.prefix}.jsonl"
        self._windows: list[Window] = []
        self._checks: list[Check] = []
        self.load = Load(
            site.url, self.prefix, self._ledger, clients=schedule.clients, wanted=self._wanted,
            patience_s=schedule.patience_s, duplicates=schedule.duplicates,
        )  # fmt: skip

    async def run(self) -> Report:
        """A cluster that did not come back is a check that failed, and `is_whole` says so.

        Raises: StartRefused, RecordsDamaged, and what asyncpg raises on a connection of its own.
        """
        began, began_ms = time.perf_counter(), now_ms()
        self.load.begin()
        try:
            await self.load.under_way()
            await self._schedule.play(self)
            await self.load.finish()
            if not self._schedule.must_lose:
                await self.site.whole()
        except (NotWhole, ClusterFailed) as error:
            self.is_whole = False
            self.require("the cluster came back", False, error)
        finally:
            await self.load.finish()
        log = await read_log(self.site.dsn, self.prefix, began_ms)
        verdict = judge(
            [line for line in read(self._ledger, Acknowledged) if line.run not in self.damaged],
            [line for line in read(self.site.journal, Invocation) if self._is_judged(line.run)],
            log.without(self.damaged), self._windows, result=self._wanted.result, good=self._wanted.good,
        )  # fmt: skip
        return Report(
            self._schedule.name, self.rounds, round(time.perf_counter() - began, 1), verdict, dict(self.load.refused),
            self.facts, self._judged(verdict),
        )  # fmt: skip

    def _is_judged(self, run: str) -> bool:
        return run.startswith(f"{self.prefix}-") and run not in self.damaged

    def _judged(self, verdict: Verdict) -> list[Check]:
        if self._schedule.must_lose:
            return [*self._checks, Check("the judge sees the loss", bool(verdict.lost), _shown(verdict.lost))]
        limit_ms = self._schedule.still_s_max * 1000
        still_ms = verdict.still_max_ms or 0.0
        is_foreign = self._wanted.result is None
        return [
            Check("nothing acknowledged is lost", not verdict.lost, _shown(verdict.lost)),
            Check(
                "no committed call is repeated", not verdict.committed_repeated, _shown(verdict.committed_repeated)
            ),
            Check("the log is sound", not verdict.unsound, _shown(verdict.unsound)),
            Check("the fault struck every time", verdict.faults >= self.rounds, f"{verdict.faults}"),
            Check("it struck runs that were under way", verdict.under_way > 0 or is_foreign, f"{verdict.under_way}"),
            Check("all of them ended well", verdict.recovered == verdict.under_way, f"{verdict.recovered}"),
            Check(
                f"none stood still for over {limit_ms:,.0f} ms", still_ms <= limit_ms,
                f"{still_ms} ms",
            ),
            *self._checks,
        ]  # fmt: skip

    # -- for schedules ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """Within the block it strikes, and at its end its cause is gone."""
        struck_ms = now_ms()
        yield
        self._windows.append(Window(struck_ms, now_ms()))

    async def flow(self, seconds: float | None = None) -> None:
        """Let the load go on; `pause_s` without a time."""
        await asyncio.sleep(self.pause_s if seconds is None else seconds)

    async def busiest(self) -> Owner:
        """The coordinator that owns most runs."""
        return (await self.site.owners())[0]

    def require(self, name: str, holds: bool, measured: object) -> None:
        """Beside what must hold of every schedule."""
        self._checks.append(Check(name, holds, str(measured)))


def own(drill: Drill) -> OwnSite:
    """The site of a schedule that needs one of its own."""
    if not isinstance(drill.site, OwnSite):
        raise TypeError(f"this schedule needs a cluster of its own, not {type(drill.site).__name__}")
    return drill.site


def _shown(faults: list[str]) -> str:
    return f"{len(faults)}" + (f": {'; '.join(faults[:3])}" if faults else "")
