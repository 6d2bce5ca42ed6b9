"""Claimed runs on their way to a driver: their logs are read together, and each run is replayed and passed on by
itself.

A run that can't be brought back is refused: this is recorded, and the run is given up until other code comes, or a
person.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from pointsman.agents.directory import AgentDirectory
from pointsman.agents.workflow import Workflow
from pointsman.coordinator.driving.apart import apart
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.driver import Driver
from pointsman.coordinator.owning.cache import ExecutionCache
from pointsman.coordinator.owning.logs import ClaimedLogs
from pointsman.coordinator.owning.refusing import refuse
from pointsman.coordinator.owning.verdict import verdict
from pointsman.coordinator.reading import corrupt
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.checksum import first_damage
from pointsman.kernel.errors import (
    CodeChanged,
    CorruptLog,
    InvalidInput,
    InvalidState,
    InvalidValue,
    PoisonedRun,
    StoreUnavailable,
)
from pointsman.kernel.events import Recorded
from pointsman.kernel.execution import Execution
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Head
from pointsman.ports.store import Store

BATCHES_MAX = 2
"""While one is being brought back, the next may be claimed: more would be taken from coordinators that have time."""

logger = logging.getLogger("pointsman.coordinator")


T = TypeVar("T")


class Drives(Protocol):
    """Takes on the runs that were brought back."""

    crew: Crew | None

    def take_on(self, driver: Driver) -> None: ...


class Loading:
    """Brings claimed runs back from their logs. `begin` and `room` may be called at any time; `stop` drops unfinished
    runs.

    Attributes:
        runs: claimed runs that are not driven yet, with their epochs, so that the sweep does not give them back
            meanwhile.
    """

    def __init__(
        self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, stats: Stats,
        cache: ExecutionCache, to: Drives, refresh: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.runs: dict[str, int] = {}
        self._settings = settings
        self._log = store.log
        self._ownership = store.ownership
        self._directory = directory
        self._stats = stats
        self._cache = cache
        self._to = to
        self._refresh = refresh
        self._batches: set[asyncio.Task[None]] = set()

    async def room(self) -> None:
        """Wait until another batch may be claimed."""
        while len(self._batches) >= BATCHES_MAX:
            await asyncio.wait(self._batches, return_when=asyncio.FIRST_COMPLETED)

    def begin(self, heads: Sequence[Head]) -> None:
        """Begin to bring back a claimed batch."""
        if not heads:
            return
        self.runs.update((head.id, head.epoch) for head in heads)
        batch = asyncio.create_task(self._load_all(heads), name=f"load {len(heads)} runs")
        self._batches.add(batch)
        batch.add_done_callback(lambda batch: self._over(batch, heads))

    async def stop(self) -> None:
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)

    # -- a batch --------------------------------------------------------------------------------------------------

    async def _load_all(self, heads: Sequence[Head]) -> None:
        cached: dict[str, Execution | None] = {}
        try:
            crew = self._to.crew
            # One that was claimed in the name of an incarnation that is over may be another's by now.
            mine = [head for head in heads if crew is not None and head.owner == crew.lease.incarnation]
            if crew is None or not mine:
                return
            cached.update((head.id, self._cache.take(head.id, head.sequence, head.epoch)) for head in mine)
            logs = ClaimedLogs(
                self._log, {head.id: before(head) for head in mine if cached[head.id] is None},
                bytes_max=self._settings.load_bytes_max, retry_ms=self._settings.takeover_retry_ms,
            )  # fmt: skip
            for head in mine:
                await self._load(crew, head, cached.pop(head.id), logs)
                self._loaded(head)
                await asyncio.sleep(0)  # the first are dispatched while the last are still replayed
        finally:
            for execution in cached.values():
                if execution is not None:
                    execution.close()

    def _over(self, batch: asyncio.Task[None], heads: Sequence[Head]) -> None:
        """Clean up after a batch, also one that was stopped before it began."""
        self._batches.discard(batch)
        for head in heads:
            self._loaded(head)

    def _loaded(self, head: Head) -> None:
        if self.runs.get(head.id) == head.epoch:  # else it was given back and claimed again meanwhile
            del self.runs[head.id]

    async def _load(self, crew: Crew, head: Head, execution: Execution | None, logs: ClaimedLogs) -> None:
        workflow = self._directory.workflow(head.workflow, head.version)
        if workflow is None or self._to.crew is not crew:
            if execution is not None:
                execution.close()
            return
        events: list[Recorded] = []
        try:
            if execution is None:
                events = await logs.of(head.id)
            if head.takeovers >= self._settings.takeovers_max:
                raise verdict(head, events, await self._surely(lambda: self._ownership.died_on_trial(head.id)))
            execution = execution or await self._bring_back(workflow, head, events)
        except (CodeChanged, CorruptLog, InvalidInput, InvalidState, PoisonedRun) as error:
            logger.warning("run %s: %s", head.id, error)
            if execution is not None:
                execution.close()
            last = events[-1] if events and events[-1].sequence == head.sequence else None
            known = (last.checksum, last.at) if last is not None else None
            await refuse(crew, head.id, head.epoch, head.sequence, known, workflow.build, error)
            return
        except Exception:
            # A bug of ours: the run is untouched in the log, and the sweep gives it back.
            logger.exception("run %s", head.id)
            return
        for warning in execution.warnings:
            logger.warning("run %s: %s", head.id, warning)
        if self._to.crew is not crew:  # the incarnation that claimed it is gone
            execution.close()
            return
        self._to.take_on(Driver(crew, execution, head))

    async def _bring_back(self, workflow: Workflow, head: Head, events: list[Recorded]) -> Execution:
        try:
            return self._replay(workflow, head, events)
        except CodeChanged:  # or it called an agent that registered elsewhere, and has not been heard of here
            await self._surely(self._look_for_agents)
            return self._replay(workflow, head, events)

    async def _look_for_agents(self) -> None:
        try:
            await self._refresh()
        except InvalidValue:  # the database is another than it was: what it holds is read from the beginning
            await self._refresh()

    def _replay(self, workflow: Workflow, head: Head, events: list[Recorded]) -> Execution:
        execution = Execution(head.id, workflow, self._directory, events_max=self._settings.events_max)
        self._stats.replays += 1
        try:
            damage = first_damage(head.id, events, head.sequence, before(head))
            if damage is not None:
                raise corrupt(head.id, damage)
            with apart():
                execution.replay(events)
            execution.checksum = events[-1].checksum
        except BaseException:
            execution.close()
            raise
        return execution

    async def _surely(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Repeat the request until there is an answer."""
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await asyncio.sleep(self._settings.takeover_retry_ms / 1000)


def before(head: Head) -> int:
    """Where to begin to read a run that is brought back: its last generation, and the one event before it, by whose
    checksum the generation's first is verified."""
    return max(head.base - 2, 0)
