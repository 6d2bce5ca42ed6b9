"""The runs that this coordinator drives: taken on, driven to an end, given back.

The roster acts under one incarnation at a time (`crew`), and takes nothing on without one. `claims.py` decides when to
claim which runs; `loading.py` brings them back from their logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.driving.apart import apart
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.driver import Driver, Exit
from pointsman.coordinator.owning.cache import ExecutionCache, RecentEnds
from pointsman.coordinator.owning.loading import Loading
from pointsman.coordinator.owning.refusing import refuse
from pointsman.coordinator.owning.watch import Watcher
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.checksum import beginning
from pointsman.kernel.errors import Draining, PointsmanError, StoreUnavailable
from pointsman.kernel.events import Event, Failure, RunCompleted, RunFailed, RunStarted, RunWasCancelled
from pointsman.kernel.execution import RUN_BYTES, Execution
from pointsman.kernel.program import WorkflowSpec
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Append, Head, NewEvent, NewRun, Outcome, chained
from pointsman.ports.ids import Ids
from pointsman.ports.runs import RunView
from pointsman.ports.store import Store

ENDS_KEPT, ENDS_BYTES_MAX, ENDS_AGE_MAX_MS = 5_000, 32_000_000, 60_000
"""How many results of ended runs are kept for those who wait for them, so that they need not be read again; and for how
long: a day later retention may have deleted the run, and its id may be another's."""

logger = logging.getLogger("pointsman.coordinator")


class Roster:
    """The runs driven here, by id, with the tasks that drive them.

    Attributes:
        crew: what drivers work with; None between two incarnations.
        claiming: held during a claim, and while runs are handed over: otherwise a run that was claimed at that moment
            would be given away again.
        is_closed: nothing more is taken on.
        on_room: called when a run was given back that this coordinator may claim again.
    """

    def __init__(
        self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, ids: Ids, stats: Stats,
        watcher: Watcher, on_room: Callable[[], None], refresh: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self.crew: Crew | None = None
        self.claiming = asyncio.Lock()
        self.is_closed = False
        self._settings = settings
        self._store = store
        self._directory = directory
        self._ids = ids
        self._stats = stats
        self._watcher = watcher
        self._on_room = on_room
        self._drivers: dict[str, Driver] = {}
        self._driven_bytes = 0
        """What all drivers together hold in memory."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._passed: dict[str, int] = {}
        """Claimed, at which epoch, while a driver of that run was here, which was to create it and is about to learn
        that it exists."""
        self._cache = ExecutionCache()
        self._loading = Loading(settings, store, directory, stats, self._cache, self, refresh)
        self._ended = RecentEnds(ENDS_KEPT, ENDS_BYTES_MAX, ENDS_AGE_MAX_MS)

    def __len__(self) -> int:
        return len(self._drivers)

    @property
    def cached(self) -> int:
        """The number of waiting runs kept in memory."""
        return len(self._cache)

    def driver(self, run: str) -> Driver | None:
        return self._drivers.get(run)

    def is_busy_with(self, run: str) -> bool:
        """Whether the run is driven here, or about to be."""
        return run in self._drivers or run in self._loading.runs

    def room(self) -> int:
        """How many more runs may be driven."""
        runs = len(self._drivers) + len(self._loading.runs)
        if self._held() > self._settings.memory_bytes_max:
            return 0
        return self._settings.runs_max - runs

    def taken(self) -> float:
        """The share of the room that is taken, in runs or in bytes."""
        runs = len(self._drivers) + len(self._loading.runs)
        return max(runs / self._settings.runs_max, self._held() / self._settings.memory_bytes_max)

    def _held(self) -> int:
        """Approximate bytes of the runs in memory. A run that is being brought back counts as `RUN_BYTES`: its size is
        not known yet.
        """
        return self._driven_bytes + self._cache.bytes + RUN_BYTES * len(self._loading.runs)

    def _weighed(self, grown: int) -> None:
        self._driven_bytes += grown

    def poke(self, run: str) -> None:
        """Look at the run, because a timer of it is due."""
        driver = self._drivers.get(run)
        if driver is not None:
            driver.poke()

    def view(self, run: str) -> RunView | None:
        """A run that is driven here or ended here lately, without asking the store. What it shows is durable."""
        driver = self._drivers.get(run)
        if driver is not None:
            head = driver.head
            # Its end is durable a turn before its task has ended and put down what it gave: till then the log tells it.
            return RunView(head) if driver.durable and head.ended_at is None else None
        return self._ended.get(run, self._store.clock.now())

    # -- beginning ------------------------------------------------------------------------------------------------

    async def create(
        self, run: str, workflow: WorkflowSpec, started: RunStarted, data: bytes, body: bytes, new_run: NewRun
    ) -> Exit | None:
        """Create a run, and drive it here if there is room. Returns Exit.EXISTS if the id is taken.

        Raises Draining, StoreUnavailable.
        """
        crew = self.crew
        if crew is None or self.is_closed or not crew.lease.is_trusted():
            raise Draining
        now = self._store.clock.now()
        new_run = msgspec.structs.replace(new_run, created_at=now)
        if self.room() <= 0 or run in self._drivers:
            event = chained(beginning(run), 1, 0, type="RunStarted", version=RunStarted.VERSION, at=now, body=body)
            return await self._create_unowned(crew, run, event, new_run)
        execution = Execution(run, workflow, self._directory, events_max=self._settings.events_max)
        created: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        with apart():
            execution.begin(started, data, now)
            driver = Driver(crew, execution, _first_head(run, new_run, crew.lease.incarnation, now), create=new_run)
            driver.created = created
            self.take_on(driver)
            driver.begin()
        return await created

    async def _create_unowned(self, crew: Crew, run: str, event: NewEvent, new_run: NewRun) -> Exit | None:
        append = Append(
            run=run, epoch=0, expected=0, nonce=self._ids.nonce(), events=[event], status="running", owner=None,
            wake_at=event.at, create=new_run,
        )  # fmt: skip
        result = await crew.recorder.append([append])
        self._store.wakeup.hint([run])
        return None if result.outcome is Outcome.MOVED else Exit.EXISTS

    async def claim(self, heads_of: Callable[[], Awaitable[Sequence[Head]]]) -> int:
        """Claim runs with `heads_of` and drive them. Returns how many, while they are still being brought back; the
        next batch may be claimed meanwhile, but only one.
        """
        await self._loading.room()
        async with self.claiming:
            heads = await heads_of()
            self._loading.begin(heads)
        return len(heads)

    async def progress_of(self, heads: Sequence[Head], timeout_s: float) -> None:
        """Wait for a limited time until each of these runs has made progress since it was claimed, or is no longer
        driven here.
        """
        deadline = self._store.clock.monotonic() + timeout_s
        for head in heads:
            await self._progress_of(head, deadline)

    async def _progress_of(self, head: Head, deadline: float) -> None:
        with self._watcher.watch(head.id, each=True) as watch:
            while self.is_busy_with(head.id) and (left := deadline - self._store.clock.monotonic()) > 0:
                driver = self._drivers.get(head.id)
                if driver is not None and driver.reached > head.sequence:
                    return
                await watch.changed(left)

    # -- driving --------------------------------------------------------------------------------------------------

    def take_on(self, driver: Driver) -> None:
        """Drive the run from now on, unless it is driven here already."""
        if driver.run in self._drivers:
            driver.execution.close()
            self._passed[driver.run] = driver.epoch
            return
        self._drivers[driver.run] = driver
        self._driven_bytes += driver.size
        driver.on_weighed = self._weighed
        self._watcher.driven_here(driver.run, True)
        self._tasks[driver.run] = asyncio.create_task(
            self._drive(driver), name=f"run {driver.run}", context=driver.context
        )

    async def _drive(self, driver: Driver) -> None:
        execution, run = driver.execution, driver.run
        keep = False
        try:
            over = await driver.drive()
            keep = over is Exit.PARKED
            if over is Exit.LOST:
                await self.give_back(run, driver.epoch, driver)
            if over is Exit.ENDED:
                head = driver.head
                if head.status != "failed":  # which may be redriven elsewhere, and is asked for in the store
                    self._ended.put(RunView(head, *result_of(execution.state.outcome)))
                self._stats.count_run(head.status)
                self._stats.run_latency.observe((execution.state.last_at - execution.state.started_at) / 1000)
            if driver.created is not None and not driver.created.done():
                driver.created.set_result(over if over is not Exit.ENDED else None)
        except PointsmanError as error:
            if driver.created is not None and not driver.created.done() and not driver.durable:
                driver.created.set_exception(error)  # there is no such run: whoever starts it is told
            else:
                await self._stop_run(driver, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # A bug of ours: the run is untouched in the log. Say so; the sweep gives it back.
            logger.exception("run %s", run)
            if driver.created is not None and not driver.created.done():
                driver.created.set_exception(StoreUnavailable(f"run {run}: {error}"))
        finally:
            self._leave(driver, keep=keep)
        passed = self._passed.pop(run, None)
        if passed is not None:
            await self.give_back(run, passed)

    def _leave(self, driver: Driver, *, keep: bool = False) -> None:
        """Note that the run is no longer driven here."""
        run = driver.run
        self._tasks.pop(run, None)
        if self._drivers.pop(run, None) is not None:
            self._driven_bytes -= driver.size
        if driver.created is not None and not driver.created.done():
            driver.created.set_exception(Draining())
        if keep and not self.is_closed:
            self._cache.put(driver.execution, driver.epoch, bytes_max=self._settings.memory_bytes_max // 2)
        else:
            driver.execution.close()
        self._watcher.driven_here(run, False)

    async def give_back(self, run: str, epoch: int, driver: Driver | None = None) -> None:
        """Discard what this coordinator held of the run (`driver`). If it still owns the run by this epoch, the run is
        claimed afresh.
        """
        async with self.claiming:
            if self._drivers.get(run) is not driver or run in self._loading.runs:
                return
            crew = self.crew
            if crew is None:
                return  # the incarnation is over, and what it owned is claimed as a dead one's
            try:
                if await self._store.ownership.hand_over(crew.lease.incarnation, {run: epoch}):
                    self._on_room()
            except StoreUnavailable:
                return  # the sweep finds it

    async def _stop_run(self, driver: Driver, error: PointsmanError) -> None:
        logger.warning("run %s: %s", driver.run, error)
        workflow = self._directory.workflow(driver.execution.state.workflow, driver.execution.state.workflow_version)
        build = workflow.build if workflow is not None else ""
        last = driver.execution.checksum, driver.execution.state.last_at
        if self.crew is not None:  # else the next owner finds the same
            await refuse(self.crew, driver.run, driver.epoch, driver.durable, last, build, error)

    # -- leaving --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Drop runs that were claimed and are not driven yet, and drop waiting runs from memory."""
        await self._loading.stop()
        self._cache.clear()

    async def drain(self, timeout_s: float, hurry: asyncio.Event) -> None:
        """After `close`: let what is under way end, and hand each run over as soon as it has. Stops when the time is
        over or there is a hurry.
        """
        for driver in self._drivers.values():
            driver.poke()
        if not self._tasks:
            return
        resting = asyncio.create_task(asyncio.wait(list(self._tasks.values())), name="rest")
        hurried = asyncio.create_task(hurry.wait(), name="hurry")
        await asyncio.wait([resting, hurried], timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        resting.cancel()
        hurried.cancel()

    async def hand_over(self, incarnation: int) -> None:
        """Hand over at once whatever the incarnation owns and nothing drives here. Raises StoreUnavailable."""
        owned = await self._store.ownership.owned(incarnation)
        left = {run: epoch for run, epoch in owned.items() if not self.is_busy_with(run)}
        if left:
            handed_over = await self._store.ownership.hand_over(incarnation, left)
            self._stats.runs_handed_over += handed_over
            self._store.wakeup.hint(list(left))

    async def drop(self) -> None:
        """Drop every run at once; whatever is in memory of them is void."""
        await self._loading.stop()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for driver in list(self._drivers.values()):  # whose task was cancelled before it began
            driver.close()
            self._leave(driver)
        self._passed.clear()
        self._cache.clear()


def _first_head(run: str, new: NewRun, owner: int, now: int) -> Head:
    """The head of a run that is about to be created here."""
    return Head(
        id=run, workflow=new.workflow, version=new.version, build=new.build, status="running", sequence=0, epoch=1,
        owner=owner, mail=0, folded=0, takeovers=0, wake_at=None, tenant=new.tenant, attributes=new.attributes,
        digest=new.digest, bucket=new.bucket, parent=new.parent, created_at=now, updated_at=now, ended_at=None,
    )  # fmt: skip


def result_of(outcome: Event | None) -> tuple[msgspec.Raw | None, Failure | None]:
    """The output or failure that a terminal event gives to those who wait for the run."""
    match outcome:
        case RunCompleted():
            return outcome.output, None
        case RunFailed():
            return None, outcome.failure
        case RunWasCancelled():
            return None, Failure("cancelled", outcome.reason, retryable=False)
        case _:
            return None, None
