"""The coordinator as a service: registers, claims, drives, takes over from the dead, hands over when it leaves.

It holds no truth. Whatever it loses in memory is in the log, and whatever it does counts only once it is there. When its
lease is lost it drops everything at once and registers as a new incarnation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.cache import ExecutionCache, RecentEnds
from pointsman.coordinator.dispatcher import Dispatcher
from pointsman.coordinator.driver import Crew, Driver, Exit
from pointsman.coordinator.recorder import Recorder
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.timers import Timers
from pointsman.coordinator.watch import Watcher
from pointsman.kernel.errors import (
    CodeChanged,
    CorruptLog,
    CoordinatorExists,
    Draining,
    InvalidInput,
    PointsmanError,
    StoreUnavailable,
    UnknownEvent,
)
from pointsman.kernel.events import Event, Failure, Recorded, RunCompleted, RunFailed, RunStarted, RunWasCancelled
from pointsman.kernel.execution import Execution, stop_note
from pointsman.observe.stats import Stats, prometheus
from pointsman.ports.event_log import Append, Head, NewEvent, NewRun, Outcome
from pointsman.ports.ids import Ids
from pointsman.ports.liveness import Lease
from pointsman.ports.runs import RunView
from pointsman.ports.store import Store

logger = logging.getLogger("pointsman.coordinator")

PAGE = 1_000
"""Events read in one statement."""
ENDS_KEPT, ENDS_BYTES_MAX = 5_000, 32_000_000
"""How many results of ended runs are kept for those who wait for them, so that they need not be read again."""


class Coordinator:
    """See the module. `start` once, `stop` any number of times."""

    def __init__(self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, ids: Ids) -> None:
        self.settings = settings
        self.store = store
        self.directory = directory
        self.ids = ids
        self.stats = Stats()
        self.watcher = Watcher(store.log, poll_ms=settings.watch_poll_ms)
        self.incarnation = 0
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loading: dict[str, None] = {}
        """Claimed, and on the way to a driver: the sweep must not give them back meanwhile."""
        self._claiming = asyncio.Lock()
        """No run is given back while a claim is under way: what was claimed meanwhile would be given away again."""
        self._cache = ExecutionCache()
        self._ended = RecentEnds(ENDS_KEPT, ENDS_BYTES_MAX)
        self._hints: dict[str, None] = {}
        self._claim_now = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._stopped = asyncio.Event()
        self._crew: Crew | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises what `Store.open` and `Liveness.register` raise."""
        await self.store.open()
        await self._enlist()
        self.watcher.start()
        duties: Sequence[Callable[[], Awaitable[None]]] = (
            self._claim_loop, self._hint_loop, self._mail_loop, self._death_loop, self._sweep_loop, self._lag_loop,
            self._lease_loop,
        )  # fmt: skip
        self._loops = [asyncio.create_task(self._keep(duty), name=duty.__name__) for duty in duties]

    async def _enlist(self) -> None:
        """Register, and start the parts that act under this incarnation."""
        definitions = self.directory.definitions()
        lease = await self.store.liveness.register(
            self.settings.name, self.settings.address, definitions, ttl_ms=self.settings.lease_ttl_ms
        )
        self.incarnation = lease.incarnation
        self.stats.incarnations += 1
        clock = self.store.clock
        self._crew = Crew(
            settings=self.settings, store=self.store, directory=self.directory, ids=self.ids,
            recorder=Recorder(self.store.log, self.settings, self.stats),
            dispatcher=Dispatcher(clock, self.stats, threads_max=self.settings.threads_max),
            timers=Timers(clock, self._poke), stats=self.stats, lease=lease, on_moved=self.watcher.moved,
        )  # fmt: skip
        self._crew.recorder.start()
        self._crew.dispatcher.start()
        self._crew.timers.start()
        logger.info("%s is incarnation %d", self.settings.name, lease.incarnation)

    async def stop(self) -> None:
        """Hand over what it owns, and leave. Calls under way have `drain_s` to end; the next owner repeats the others
        under their keys."""
        if self._is_stopping:
            await self._stopped.wait()
            return
        self._is_stopping = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        crew = self._crew
        if crew is not None:
            crew.is_draining = True
            self._cache.clear()
            await self._drain(crew)
            await self._disband(crew)
            try:
                await self.store.ownership.hand_over(self.incarnation)
                await crew.lease.release()
                self.store.wakeup.hint([])
            except StoreUnavailable:
                logger.warning("the store can't be reached: what this coordinator owns is taken over when its lease ends")
        await self.watcher.stop()
        await self.store.close()
        self._stopped.set()

    async def _drain(self, crew: Crew) -> None:
        for driver in self._drivers.values():
            driver.poke()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=self.settings.drain_s)

    async def _disband(self, crew: Crew) -> None:
        """Drop every run and stop what acts for them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for driver in list(self._drivers.values()):  # whose task was cancelled before its first step
            self._leave(driver)
        await crew.timers.stop()
        await crew.dispatcher.stop()
        await crew.recorder.stop()
        self._cache.clear()

    async def _keep(self, duty: Callable[[], Awaitable[None]]) -> None:
        """A duty goes on whatever happens to it."""
        while True:
            try:
                await duty()
            except StoreUnavailable as error:
                logger.warning("%s: %s", duty.__name__, error)
                await asyncio.sleep(self.settings.claim_poll_ms / 1000)
            except Exception:
                logger.exception("%s failed; it goes on", duty.__name__)
                await asyncio.sleep(self.settings.claim_poll_ms / 1000)

    async def _lease_loop(self) -> None:
        """When the lease is lost, nothing that this process holds counts any more: start afresh."""
        crew = self._crew
        if crew is not None:
            await crew.lease.lost()
            logger.warning("incarnation %d is lost: dropping %d runs", self.incarnation, len(self._drivers))
            self._crew = None  # first of all: from here on nothing is taken on in its name
            await self._disband(crew)
        while True:
            try:
                await self._enlist()
                return
            except (StoreUnavailable, CoordinatorExists) as error:
                logger.warning("can't register: %s", error)
                await asyncio.sleep(self.settings.claim_poll_ms / 1000)

    # -- starting runs ----------------------------------------------------------------------------------------------

    async def create(self, run: str, started: RunStarted, data: bytes, body: bytes, new_run: NewRun) -> Exit | None:
        """Start a run here, if there is room, or leave it to whoever has some. Exit.EXISTS when the id is taken.

        Raises Draining, StoreUnavailable.
        """
        crew = self._crew
        if crew is None or self._is_stopping or not crew.lease.is_trusted():
            raise Draining
        now = self.store.clock.now()
        workflow = self.directory.workflow(new_run.workflow, new_run.version)
        if workflow is None or self._room() <= 0 or run in self._drivers:
            return await self._create_unowned(crew, run, NewEvent("RunStarted", 1, now, body), new_run)
        execution = Execution(run, workflow, self.directory, events_max=self.settings.events_max)
        execution.begin(started, data, now)
        driver = Driver(crew, execution, _first_head(run, new_run, self.incarnation, now), create=new_run)
        created: asyncio.Future[Exit | None] = asyncio.get_running_loop().create_future()
        driver.created = created
        self._take_on(driver)
        return await created

    async def _create_unowned(self, crew: Crew, run: str, event: NewEvent, new_run: NewRun) -> Exit | None:
        append = Append(
            run=run, epoch=0, expected=0, nonce=self.ids.nonce(), events=[event], status="running", owner=None,
            wake_at=event.at, create=new_run,
        )  # fmt: skip
        result = (await crew.recorder.submit([append]))[0]
        self.store.wakeup.hint([run])
        return None if result.outcome is Outcome.MOVED else Exit.EXISTS

    def _room(self) -> int:
        """How many more runs may be driven."""
        if self._cache.bytes + 4_500 * len(self._drivers) > self.settings.memory_bytes_max:
            return 0
        return self.settings.runs_max - len(self._drivers)

    # -- driving ------------------------------------------------------------------------------------------------

    def _take_on(self, driver: Driver) -> None:
        self._drivers[driver.run] = driver
        self.watcher.driven_here(driver.run, True)
        self._tasks[driver.run] = asyncio.create_task(self._drive(driver), name=f"run {driver.run}")

    async def _drive(self, driver: Driver) -> None:
        execution, run = driver.execution, driver.run
        keep = False
        try:
            over = await driver.drive()
            keep = over is Exit.PARKED
            if over is Exit.LOST:
                await self._give_back(run, driver)
            if over is Exit.ENDED:
                self._ended.put(RunView(driver.head, *result_of(execution.state.outcome)))
                self.stats.count_run(driver.head.status)
                self.stats.run_latency.observe((execution.state.last_at - execution.state.started_at) / 1000)
            if driver.created is not None and not driver.created.done():
                driver.created.set_result(over if over is not Exit.ENDED else None)
        except PointsmanError as error:
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

    def _leave(self, driver: Driver, *, keep: bool = False) -> None:
        """The run is no longer driven here."""
        run = driver.run
        self._tasks.pop(run, None)
        self._drivers.pop(run, None)
        if driver.created is not None and not driver.created.done():
            driver.created.set_exception(Draining())
        if keep and not self._is_stopping:
            self._cache.put(driver.execution, bytes_max=self.settings.memory_bytes_max // 2)
        else:
            driver.execution.close()
        self.watcher.driven_here(run, False)

    async def _give_back(self, run: str, driver: Driver | None = None) -> None:
        """What this coordinator held of the run (`driver`) is void. If it still owns it, it is claimed afresh."""
        async with self._claiming:
            if self._drivers.get(run) is not driver or run in self._loading:
                return
            try:
                if await self.store.ownership.hand_over(self.incarnation, [run]):
                    self._claim_now.set()
            except StoreUnavailable:
                return  # the sweep finds it

    async def _stop_run(self, driver: Driver, error: PointsmanError) -> None:
        logger.warning("run %s: %s", driver.run, error)
        workflow = self.directory.workflow(driver.execution.state.workflow, driver.execution.state.workflow_version)
        build = workflow.build if workflow is not None else ""
        await self._refuse_run(driver.run, driver.epoch, driver.durable, build, error)

    async def _refuse_run(self, run: str, epoch: int, sequence: int, build: str, error: PointsmanError) -> None:
        """This code can't drive it: record that, and give it up until other code comes (or a person, if it is corrupt)."""
        crew = self._crew
        if crew is None:
            return  # the next owner finds the same
        now = self.store.clock.now()
        note = stop_note(error, build, now)
        fits_later = isinstance(error, CodeChanged | InvalidInput)
        append = Append(
            run=run, epoch=epoch, expected=sequence, nonce=self.ids.nonce(), owner=None,
            events=[NewEvent("RunStopped", note.event.VERSION, note.at, note.body)],
            status="stopped" if fits_later else "quarantined", wake_at=now if fits_later else None,
        )  # fmt: skip
        self.stats.runs_stopped += 1
        await crew.recorder.submit([append])

    async def _adopt(self, heads: Sequence[Head]) -> None:
        """Drive runs that were just claimed."""
        await asyncio.gather(*(self._load_noted(head) for head in heads))

    async def _load_noted(self, head: Head) -> None:
        try:
            await self._load(head)
        finally:
            self._loading.pop(head.id, None)

    async def _load(self, head: Head) -> None:
        crew, workflow = self._crew, self.directory.workflow(head.workflow, head.version)
        if crew is None or workflow is None or head.id in self._drivers:
            return
        if head.owner != crew.lease.incarnation:
            return  # claimed in the name of an incarnation that is over: the epoch may be another's by now
        execution = self._cache.take(head.id, head.sequence)
        if execution is None:
            execution = Execution(head.id, workflow, self.directory, events_max=self.settings.events_max)
            try:
                self.stats.replays += 1
                execution.replay(await self._read_patiently(head.id))
            except (CodeChanged, CorruptLog, InvalidInput, UnknownEvent) as error:
                logger.warning("run %s: %s", head.id, error)
                execution.close()
                await self._refuse_run(head.id, head.epoch, head.sequence, workflow.build, error)
                return
            for warning in execution.warnings:
                logger.warning("run %s: %s", head.id, warning)
        if self._crew is not crew or head.id in self._drivers:  # the incarnation that claimed it is gone
            execution.close()
            return
        self._take_on(Driver(crew, execution, head))

    async def _read_patiently(self, run: str) -> list[Recorded]:
        """A claimed run is not forgotten because the store could not be reached for a moment."""
        while True:
            try:
                return await self.read_all(run)
            except StoreUnavailable:
                await asyncio.sleep(self.settings.takeover_retry_ms / 1000)

    async def read_all(self, run: str) -> list[Recorded]:
        """All events of a run, none if there is no such run."""
        out: list[Recorded] = []
        while True:
            page = await self.store.log.read(run, after=len(out), limit=PAGE)
            out += page
            if len(page) < PAGE:
                return out

    def _poke(self, run: str) -> None:
        driver = self._drivers.get(run)
        if driver is not None:
            driver.poke()

    def view(self, run: str) -> RunView | None:
        """A run that is driven here, or lately ended here, without asking the store. What it shows is durable."""
        driver = self._drivers.get(run)
        if driver is not None:
            return RunView(driver.head) if driver.durable else None
        return self._ended.get(run)

    def is_driving(self, run: str) -> bool:
        return run in self._drivers

    def hint(self, run: str) -> None:
        """Somebody has left mail for this run: look at once, and tell the others."""
        self._hinted([run])
        self.store.wakeup.hint([run])

    def _hinted(self, runs: Sequence[str]) -> None:
        for run in runs:
            driver = self._drivers.get(run)
            if driver is not None:
                driver.hinted()
            else:
                self._hints[run] = None
        self._claim_now.set()

    # -- duties -------------------------------------------------------------------------------------------------

    async def _claim_loop(self) -> None:
        """Claim unowned runs that are due: on a hint at once, and by a poll that can be relied on."""
        while True:
            try:
                async with asyncio.timeout(self.settings.claim_poll_ms / 1000):
                    await self._claim_now.wait()
            except TimeoutError:
                pass
            self._claim_now.clear()
            self._hints.clear()
            while (limit := min(self._room(), self.settings.claim_batch)) > 0 and self._may_act():
                async with self._claiming:
                    heads = await self.store.ownership.claim_due(
                        self.incarnation, self.directory.definitions(), limit=limit
                    )
                    self._loading.update((head.id, None) for head in heads)
                self.stats.runs_claimed += len(heads)
                await self._adopt(heads)
                if len(heads) < limit:
                    break

    async def _hint_loop(self) -> None:
        while True:
            self._hinted(await self.store.wakeup.next_hints())

    async def _mail_loop(self) -> None:
        """Hints may be lost; this finds the mail of driven runs."""
        while True:
            await asyncio.sleep(self.settings.mail_poll_ms / 1000)
            for run, count in (await self.store.mailbox.unread(self.incarnation)).items():
                driver = self._drivers.get(run)
                if driver is not None:
                    driver.mail_came(count)

    async def _death_loop(self) -> None:
        while True:
            dead = await self.store.liveness.next_death(self.incarnation)
            if dead != self.incarnation:
                logger.info("incarnation %d is over: claiming what it left", dead)
                self.stats.takeovers += 1
                await self._take_over()

    async def _take_over(self) -> None:
        """Claim until the dead own nothing: a last statement of theirs may still hold some heads."""
        while self._may_act():
            limit = min(self._room(), self.settings.claim_batch)
            if limit <= 0:
                return
            async with self._claiming:
                heads, left = await self.store.ownership.claim_orphans(
                    self.incarnation, self.directory.definitions(), limit=limit
                )
                self._loading.update((head.id, None) for head in heads)
            self.stats.runs_taken_over += len(heads)
            await self._adopt(heads)
            if not heads and not left:
                return
            if not heads:
                await asyncio.sleep(self.settings.takeover_retry_ms / 1000)

    async def _sweep_loop(self) -> None:
        """What every other way missed: orphans, runs that are owned and not driven, and workflow versions that nobody
        has."""
        suspects: set[str] = set()
        while True:
            await asyncio.sleep(self.settings.sweep_ms / 1000)
            await self._take_over()
            owned = await self.store.ownership.owned(self.incarnation)
            undriven = {run for run in owned if run not in self._drivers and run not in self._loading}
            for run in sorted(suspects & undriven):
                logger.warning("run %s is owned and not driven: giving it back", run)
                await self._give_back(run)
            suspects = undriven
            for missing in await self.store.ownership.stranded(self.directory.definitions()):
                logger.warning("stranded: nobody here can drive %s v%d", missing.workflow, missing.version)

    async def _lag_loop(self) -> None:
        """How late the event loop is: an agent that blocks it is seen here."""
        clock = self.store.clock
        while True:
            before = clock.monotonic()
            await asyncio.sleep(0.25)
            self.stats.loop_lag_s = max(clock.monotonic() - before - 0.25, 0.0)

    def _may_act(self) -> bool:
        return not self._is_stopping and self._crew is not None and self._crew.lease.is_trusted()

    # -- what it says of itself -----------------------------------------------------------------------------------

    @property
    def is_draining(self) -> bool:
        return self._is_stopping

    @property
    def load(self) -> float:
        """Share of its room that is taken, 0 to 1."""
        return len(self._drivers) / self.settings.runs_max

    def is_ready(self) -> tuple[bool, str]:
        if self._is_stopping:
            return False, "leaving"
        if self._crew is None or not self._crew.lease.is_trusted():
            return False, "has no lease it can trust: the store can't be reached"
        return True, f"incarnation {self.incarnation}, {len(self._drivers)} runs"

    def describe(self) -> Mapping[str, Any]:
        limits = {name: getattr(self.settings, name) for name in self.settings.__slots__}
        return {
            "name": self.settings.name,
            "incarnation": self.incarnation,
            "store": self.store.description,
            "workflows": [f"{d.workflow} v{d.version} ({d.build})" for d in self.directory.definitions()],
            "agents": [agent.name for agent in self.directory.agents()],
            "runs_active": len(self._drivers),
            "limits": limits,
        }

    def metrics(self) -> str:
        crew = self._crew
        gauges = {
            "pointsman_runs_active": float(len(self._drivers)),
            "pointsman_runs_cached": float(len(self._cache)),
            "pointsman_calls_active": float(crew.dispatcher.active if crew else 0),
            "pointsman_append_queue_depth": float(crew.recorder.depth if crew else 0),
            "pointsman_ready": float(self.is_ready()[0]),
        }
        return prometheus(self.stats, gauges)


def _first_head(run: str, new: NewRun, owner: int, now: int) -> Head:
    """The head of a run that is about to be created here."""
    return Head(
        id=run, workflow=new.workflow, version=new.version, build=new.build, status="running", sequence=0, epoch=1,
        owner=owner, mail=0, folded=0, takeovers=0, wake_at=None, tenant=new.tenant, attributes=new.attributes,
        digest=new.digest, bucket=new.bucket, parent=new.parent, created_at=now, updated_at=now, ended_at=None,
    )  # fmt: skip


def result_of(outcome: Event | None) -> tuple[msgspec.Raw | None, Failure | None]:
    """What a run's terminal event gives to those who wait: an output or a failure."""
    match outcome:
        case RunCompleted():
            return outcome.output, None
        case RunFailed():
            return None, outcome.failure
        case RunWasCancelled():
            return None, Failure("cancelled", outcome.reason, retryable=False)
        case _:
            return None, None
