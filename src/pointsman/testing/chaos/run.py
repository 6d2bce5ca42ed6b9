"""Schedules one after another, or several at a time, each on a cluster of its own kind.

Schedules of one kind of cluster share it while they follow one another: to start one takes longer than a short drill.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pointsman.testing.chaos.drill import Drill, Report
from pointsman.testing.chaos.load import Wanted
from pointsman.testing.chaos.schedule import Schedule
from pointsman.testing.chaos.site import Site

PAUSE_S: Final = {True: 0.7, False: 2.0}
"""Seconds of load before each fault: in short form, in long form."""

OnReport = Callable[[Report], None]


async def run_schedules(
    schedules: Sequence[Schedule], directory: Path, *, short: bool = False, rounds: int | None = None,
    pause_s: float | None = None, jobs: int = 1, on_report: OnReport = lambda _: None,
    running: Site | None = None, wanted: Wanted | None = None,
) -> list[Report]:  # fmt: skip
    """All of them, in directories below `directory`, which must be empty.

    Args:
        rounds: how many times each fault strikes; what the schedule says, without.
        pause_s: seconds of load before each.
        jobs: so many at a time, each on a cluster of its own.
        running: a site that has started, for all of them instead of their own; it is not stopped.
        wanted: what clients start there.

    Raises: what `Drill.run` and `Site.start` raise.
    """
    waiting = deque(sorted(schedules, key=lambda one: [s.site for s in schedules].index(one.site)))
    reports: dict[str, Report] = {}

    async def work(number: int) -> None:
        lane = _Lane(directory / f"lane-{number}", running)
        try:
            while waiting:
                one = waiting.popleft()
                site = await lane.site(one)
                times = rounds or (one.short if short else one.long)
                pause = PAUSE_S[short] if pause_s is None else pause_s
                drill = Drill(one, site, rounds=times, pause_s=pause, wanted=wanted)
                reports[one.name] = await drill.run()
                on_report(reports[one.name])
                if not drill.is_whole:
                    await lane.close()
        finally:
            await lane.close()

    try:
        async with asyncio.TaskGroup() as lanes:
            for number in range(1, min(jobs, len(schedules)) + 1):
                lanes.create_task(work(number))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None  # of one lane; the others were stopped for it
    return [reports[one.name] for one in schedules]


def new_directory() -> Path:
    """For everything that drills leave behind."""
    directory = Path(tempfile.mkdtemp(prefix="pointsman-chaos-"))
    if os.geteuid() == 0:
        directory.chmod(0o755)  # as root the embedded server runs as another user, who must reach its data
    return directory


class _Lane:
    """One cluster after another."""

    def __init__(self, directory: Path, running: Site | None) -> None:
        self._directory = directory
        self._running = running
        self._site: Site | None = None
        self._made_by: object = None
        self._count = 0

    async def site(self, schedule: Schedule) -> Site:
        """The one that there is, if it is of the right kind."""
        if self._running is not None:
            return self._running
        if self._site is None or self._made_by is not schedule.site:
            await self.close()
            self._count += 1
            directory = self._directory / f"{self._count}"
            directory.mkdir(parents=True)
            self._site, self._made_by = schedule.site(directory), schedule.site
            await self._site.start()
        return self._site

    async def close(self) -> None:
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
