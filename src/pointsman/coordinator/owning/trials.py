"""Trials: a run that may be what ends its coordinators is driven on suspicion, one at a time and watched.

A run that was taken over and has appended nothing since, when its next owner dies too, is a suspect. Beside it there
may be hundreds that only happened to be there, so its death count is raised before it is loaded, and while its trial
lasts a death is its fault alone. A trial ends with the run's first append, or when its time is over; that grows with
every death, so that what kills slowly is found too. One that has been there too often is quarantined, with a report.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.owning.roster import Roster
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Head
from pointsman.ports.store import Store

GROWTH = 4
"""Each death makes the next trial so many times longer."""
FIRST_TRIAL = 2
"""`takeovers` of a run at its first trial: the first death of a coordinator with it put nothing on it."""

logger = logging.getLogger("pointsman.coordinator")


class Trials:
    """`hold_all` at any time, one after the other."""

    def __init__(self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, stats: Stats) -> None:
        self._settings = settings
        self._store = store
        self._directory = directory
        self._stats = stats
        self._lock = asyncio.Lock()

    async def hold_all(self, roster: Roster) -> None:
        """Until no suspect is left that nobody drives. Raises StoreUnavailable."""
        async with self._lock:
            while (head := await self._claim(roster)) is not None:
                await self._hold(roster, head)

    async def _claim(self, roster: Roster) -> Head | None:
        claimed: list[Head] = []

        async def suspect() -> Sequence[Head]:
            crew = roster.crew
            if crew is not None and crew.lease.is_trusted() and roster.room() > 0 and not roster.is_closed:
                head = await self._store.ownership.claim_suspect(crew.lease.incarnation, self._directory.definitions())
                claimed.extend([head] if head is not None else [])
            return claimed

        self._stats.runs_taken_over += await roster.claim(suspect)
        return claimed[0] if claimed else None

    async def _hold(self, roster: Roster, head: Head) -> None:
        if head.takeovers < self._settings.takeovers_max:
            seconds = self._settings.trial_ms / 1000 * GROWTH ** max(head.takeovers - FIRST_TRIAL, 0)
            logger.warning(
                "run %s: %d coordinators died with it, one after the other and without progress of it: a death in the "
                "next %g s is its fault, unless it gets on", head.id, head.takeovers, seconds,
            )  # fmt: skip
            self._stats.trials += 1
            await roster.progress_of(head, seconds)
        if head.owner is not None:
            await self._store.ownership.end_trial(head.owner)
