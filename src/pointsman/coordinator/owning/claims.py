"""Claims: which runs this coordinator claims, and when. Every duty is a loop that survives any failure.

Hints make a claim faster, polls make it certain, deaths bring the runs of others, and a sweep finds what all of these
missed. This module knows nothing of how a run is driven (`roster.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.duties import keep
from pointsman.coordinator.owning.roster import Roster
from pointsman.coordinator.owning.trials import Trials
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Head
from pointsman.ports.store import Store

logger = logging.getLogger("pointsman.coordinator")


class Claims:
    """A service: `start`, `stop`; `hint` and `look` at any time."""

    def __init__(
        self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, stats: Stats,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._settings = settings
        self._store = store
        self._directory = directory
        self._stats = stats
        self._refresh = refresh
        self._roster: Roster
        self._trials = Trials(settings, store, directory, stats)
        self._now = asyncio.Event()
        self._suspects = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, roster: Roster) -> None:
        self._roster = roster
        duties = (
            self._claim_due, self._take_hints, self._look_for_mail, self._watch_others, self._sweep, self._hold_trials,
        )  # fmt: skip
        self._tasks = [
            asyncio.create_task(keep(duty, self._settings.claim_poll_ms / 1000), name=duty.__name__.lstrip("_"))
            for duty in duties
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """Look for due runs now."""
        self._now.set()

    def hint(self, runs: Sequence[str]) -> None:
        """Look at these runs: there may be something to do."""
        for run in runs:
            driver = self._roster.driver(run)
            if driver is not None:
                driver.hinted()
        self._now.set()

    def _may_act(self) -> bool:
        crew = self._roster.crew
        return not self._roster.is_closed and crew is not None and crew.lease.is_trusted()

    def _incarnation(self) -> int:
        crew = self._roster.crew
        return crew.lease.incarnation if crew is not None else 0

    async def _claim_due(self) -> None:
        """Claim unowned runs that are due: at once on a hint, and reliably by polling."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.claim_poll_ms / 1000):
                    await self._now.wait()
            self._now.clear()
            while (limit := min(self._roster.room(), self._settings.claim_batch)) > 0 and self._may_act():
                claimed = await self._roster.claim(lambda limit=limit: self._due(limit))  # type: ignore[misc]
                self._stats.runs_claimed += claimed
                if claimed < limit:
                    break

    async def _due(self, limit: int) -> Sequence[Head]:
        return await self._store.ownership.claim_due(self._incarnation(), self._directory.definitions(), limit=limit)

    async def _take_hints(self) -> None:
        while True:
            self.hint(await self._store.wakeup.next_hints())

    async def _look_for_mail(self) -> None:
        """Find the mail of driven runs by polling, because hints may be lost."""
        while True:
            await asyncio.sleep(self._settings.mail_poll_ms / 1000)
            for run, count in (await self._store.mailbox.unread(self._incarnation())).items():
                driver = self._roster.driver(run)
                if driver is not None:
                    driver.mail_came(count)

    async def _watch_others(self) -> None:
        while True:
            own = self._incarnation()
            dead = await self._store.liveness.next_death(own)
            if dead == own:
                continue
            if dead:
                logger.info("incarnation %d is over: claiming what it left", dead)
                self._stats.takeovers += 1
            await self._take_over()

    async def _take_over(self) -> None:
        """Claim until the dead own nothing; their last statements may still hold some heads.

        Batches are small, and the next one is claimed while the last is brought back, so that every survivor gets its
        share.
        """
        is_first, left = True, 1
        while left and self._may_act() and (limit := min(self._roster.room(), self._settings.takeover_batch)) > 0:

            async def orphans(limit: int = limit, is_first: bool = is_first) -> Sequence[Head]:
                nonlocal left
                claiming = self._store.ownership.claim_orphans(
                    self._incarnation(), self._directory.definitions(), limit=limit
                )
                if is_first:  # they may have called agents that have only just registered
                    (heads, left), _ = await asyncio.gather(claiming, self._refresh())
                else:
                    heads, left = await claiming
                return heads

            claimed = await self._roster.claim(orphans)
            is_first = False
            self._stats.runs_taken_over += claimed
            if left and not claimed:
                await asyncio.sleep(self._settings.takeover_retry_ms / 1000)
        self._suspects.set()

    async def _hold_trials(self) -> None:
        """Hold trials in a task apart from the takeovers, so that nothing waits for the end of a trial."""
        while True:
            await self._suspects.wait()
            self._suspects.clear()
            await self._trials.hold_all(self._roster)

    async def _sweep(self) -> None:
        """Look for orphans, for runs that are owned and not driven, and for workflow versions that nobody has."""
        undriven_before: set[tuple[str, int]] = set()
        while True:
            await self._take_over()  # at once: also what was left while nobody lived
            await asyncio.sleep(self._settings.sweep_ms / 1000)
            owned = await self._store.ownership.owned(self._incarnation())
            undriven = {(run, epoch) for run, epoch in owned.items() if not self._roster.is_busy_with(run)}
            for run, epoch in sorted(undriven_before & undriven):
                logger.warning("run %s is owned and not driven: giving it back", run)
                await self._roster.give_back(run, epoch)
            undriven_before = undriven
            living = [definition for m in await self._store.liveness.members() for definition in m.definitions]
            for missing in await self._store.ownership.stranded([*living, *self._directory.definitions()]):
                logger.warning("stranded: no live coordinator has %s v%d", missing.workflow, missing.version)
