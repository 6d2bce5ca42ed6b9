"""Trials: runs that may be what ends their coordinators are driven on suspicion, apart from the others and watched.

A run that was taken over, and whose next owner dies as well before the run has appended anything, is a suspect. Usually
hundreds of runs are suspects by accident, because two deaths at a short interval found them waiting for slow agents. So
at first many are tried together, after each further death fewer, and in the end each alone. No run is quarantined for a
death that it shared.

The takeover count of a suspect is raised before it is loaded, and a death during a trial is blamed on those of its runs
that have made no progress. A trial ends when all of them have appended, or when its time is over. That time grows with
every death, so that a run that kills slowly is found as well. A run with too many deaths is quarantined, with a report.
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

GROWTH, SHRINKAGE = 4, 8
"""Each death makes the next trial so many times longer, of so many times fewer runs."""
FIRST_TRIAL = 2
"""`takeovers` of a run at its first trial: the first death of a coordinator with it put nothing on it."""

NAMES_SHOWN = 10

logger = logging.getLogger("pointsman.coordinator")


class Trials:
    """Holds the trials of one coordinator, one after the other; call `hold_all` at any time."""

    def __init__(self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, stats: Stats) -> None:
        self._settings = settings
        self._store = store
        self._directory = directory
        self._stats = stats
        self._lock = asyncio.Lock()
        self._owner: int | None = None
        """The incarnation that has runs on trial, or may have: of a claim that was not answered."""

    async def hold_all(self, roster: Roster) -> None:
        """Hold trials until no suspect is left that nobody drives. Raises StoreUnavailable."""
        async with self._lock:
            await self._end()  # what could not be ended the last time
            while heads := await self._claim(roster):
                await self._hold(roster, heads)
                await self._end()

    async def _claim(self, roster: Roster) -> Sequence[Head]:
        claimed: list[Head] = []

        async def suspects() -> Sequence[Head]:
            crew, room = roster.crew, roster.room()
            if crew is not None and crew.lease.is_trusted() and room > 0 and not roster.is_closed:
                self._owner = crew.lease.incarnation
                claimed.extend(
                    await self._store.ownership.claim_suspects(
                        crew.lease.incarnation, self._directory.definitions(),
                        together=[min(size, room) for size in trial_sizes(self._settings)],
                    )
                )  # fmt: skip
                if not claimed:
                    self._owner = None
            return claimed

        taken_over = await roster.claim(suspects)
        self._stats.runs_taken_over += taken_over
        return claimed

    async def _hold(self, roster: Roster, heads: Sequence[Head]) -> None:
        """Hold one trial, of runs with equally many takeovers."""
        first = heads[0]
        if first.takeovers < self._settings.takeovers_max:
            seconds = self._settings.trial_ms / 1000 * GROWTH ** max(first.takeovers - FIRST_TRIAL, 0)
            logger.warning(
                "%s: %d coordinators died with each, one after the other and without progress of it: a death in the "
                "next %g s is the fault of one of them, unless it gets on", _names(heads), first.takeovers, seconds,
            )  # fmt: skip
            self._stats.trials += 1
            await roster.progress_of(heads, seconds)

    async def _end(self) -> None:
        if self._owner is not None:
            await self._store.ownership.end_trial(self._owner)
            self._owner = None


def trial_sizes(settings: CoordinatorSettings) -> Sequence[int]:
    """How many suspects with 1, 2, 3 … takeovers are tried together. Those that one more death would quarantine are
    tried alone.
    """
    shared = range(max(settings.takeovers_max - FIRST_TRIAL - 1, 0))
    return [*(max(settings.trial_runs // SHRINKAGE**deaths, 1) for deaths in shared), 1]


def _names(heads: Sequence[Head]) -> str:
    more = len(heads) - NAMES_SHOWN
    names = ", ".join(head.id for head in heads[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"run{'s' if len(heads) > 1 else ''} {names}"
