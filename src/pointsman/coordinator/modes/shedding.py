"""Shedding: new runs that would wait too long are refused at once, instead of timing out late.

Starts of one workflow are shed if its calls queue for an agent, and starts of all workflows if this process or the
store can't keep up. A share of the starts is let in. The share falls while the wait is over its limit, and rises slowly
again. Runs that were accepted are never shed, and neither is a repeated start of such a run.
"""

from __future__ import annotations

import asyncio
import math

from pointsman.coordinator.modes.signals import Measurements
from pointsman.kernel.errors import Overloaded
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import EventLog

DOWN_OF_QUEUES, DOWN_OF_MACHINERY, UP = 0.6, 0.85, 0.04
"""In a tenth of a second: the share falls by as much as the wait is over its limit, but not below this much of itself;
or rises by this much. A queue is known at once, and what a process is behind only by those who went through. A process
that is behind samples seldom, so it goes by time."""
STEP_S, STEPS_MAX = 0.1, 20.0
SHARE_MIN = 0.02
"""What is let in even so: nothing would be learned from none."""
RETRY_AFTER_S_MAX = 30
EVERYTHING = ""
"""The valve of all workflows."""


class Valve:
    """Lets a share of what comes pass, evenly."""

    __slots__ = ("_credit", "_down", "share", "wait")

    def __init__(self, down: float) -> None:
        self._down = down
        self.share = 1.0
        self.wait = 0.0
        self._credit = 0.0

    def adjust(self, wait: float, limit: float, seconds: float = STEP_S) -> None:
        """`seconds`: since the last time."""
        self.wait = wait
        steps = min(seconds / STEP_S, STEPS_MAX)
        if wait > limit:
            self.share = max(self.share * max(limit / wait, self._down) ** steps, SHARE_MIN)
        else:
            self.share = min(self.share + UP * steps, 1.0)

    def passes(self) -> bool:
        self._credit += self.share
        if self._credit < 1.0:
            return False
        self._credit = min(self._credit - 1.0, 1.0)
        return True


class Shedding:
    """Call `adjust` after every sample, and `check` before a run is started.

    Args:
        wait_s: the limit of the expected wait.
    """

    def __init__(self, wait_s: float, log: EventLog, stats: Stats) -> None:
        self._wait_s = wait_s
        self._stats = stats
        self._lookup = Lookup(log)
        self._valves: dict[str, Valve] = {}

    def adjust(self, measured: Measurements, seconds: float) -> None:
        """`seconds`: since the last time."""
        waits = {**measured.waits, EVERYTHING: measured.machinery}
        for key, wait in waits.items():
            if wait > self._wait_s and key not in self._valves:
                self._valves[key] = Valve(DOWN_OF_QUEUES if key else DOWN_OF_MACHINERY)
        for key, valve in list(self._valves.items()):
            valve.adjust(waits.get(key, 0.0), self._wait_s, seconds)
            if valve.share >= 1.0:
                del self._valves[key]

    async def check(self, workflow: str, run: str | None) -> None:
        """Check that a run of this workflow may be started now. `run`: its id, if the client gave one.

        Raises:
            Overloaded: it may not, and there is no run of that id. StoreUnavailable: it is unknown whether there is
                one.
        """
        if not self._valves:
            return
        for key, reason in ((EVERYTHING, "coordinator"), (workflow, "agents")):
            valve = self._valves.get(key)
            if valve is None or valve.passes():
                continue
            if run is not None and await self._lookup.exists(run):
                return
            self._stats.runs_shed[reason] = self._stats.runs_shed.get(reason, 0) + 1
            who = f"calls of {workflow} wait for their agents" if key else "this coordinator is behind"
            error = Overloaded(
                f"not started: {who}, about {valve.wait:.3g} s, and the limit is {self._wait_s:g} s; try again later"
            )
            error.retry_after_s = min(max(math.ceil(valve.wait - self._wait_s), 1), RETRY_AFTER_S_MAX)
            raise error


class Lookup:
    """Which runs exist: what is asked while an answer is on its way goes in the next question, all together."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._task: asyncio.Task[None] | None = None

    async def exists(self, run: str) -> bool:
        """Raises StoreUnavailable."""
        future = self._asked.get(run)
        if future is None:
            future = self._asked[run] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._ask(), name="which runs exist")
        return await asyncio.shield(future)

    async def _ask(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                found = await self._log.heads(list(asked))
            except BaseException as error:
                for future in asked.values():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                    future.exception()  # whoever asked may be gone
                if isinstance(error, Exception):
                    continue  # they were told; others may have asked meanwhile
                raise
            for run, future in asked.items():
                future.set_result(run in found)
