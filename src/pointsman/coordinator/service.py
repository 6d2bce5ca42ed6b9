"""The coordinator as a service: registers, drives runs, takes over those of the dead, and hands its own over when it
leaves.

Nothing in its memory is authoritative: whatever it loses is in the log, and whatever it does counts only once it is
there. When its lease is lost it drops everything at once and registers as a new incarnation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.transport import Transport
from pointsman.coordinator.agents import AgentKeeper
from pointsman.coordinator.budgets.service import Purses
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.dispatcher import Dispatcher
from pointsman.coordinator.driving.effects import Effects
from pointsman.coordinator.driving.recorder import Recorder
from pointsman.coordinator.driving.timers import Timers
from pointsman.coordinator.driving.tracebacks import Tracebacks
from pointsman.coordinator.duties import keep
from pointsman.coordinator.gates.service import Gates
from pointsman.coordinator.health import HealthWatch, Probe
from pointsman.coordinator.modes.keeper import SECTION, ModeKeeper
from pointsman.coordinator.notices import NoticeDuty
from pointsman.coordinator.owning.claims import Claims
from pointsman.coordinator.owning.roster import Roster
from pointsman.coordinator.owning.watch import Watcher
from pointsman.coordinator.retention import RetentionDuty
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import CoordinatorExists, StoreUnavailable
from pointsman.kernel.policy.amounts import Budget
from pointsman.kernel.policy.breaker import Sums
from pointsman.observe.stats import Stats, prometheus
from pointsman.ports.ids import Ids
from pointsman.ports.store import Store
from pointsman.ports.telling import Teller
from pointsman.ports.workers import Desk

logger = logging.getLogger("pointsman.coordinator")


async def no_probe(url: str, timeout: float) -> None:
    """The probe of a coordinator that reaches no agent by URL."""
    raise ConnectionError(f"{url}: this coordinator has no way to reach it within {timeout:g} s")


class Coordinator:
    """One coordinator of a cluster. Call `start` once; `stop` is idempotent."""

    def __init__(
        self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, ids: Ids,
        transports: Mapping[str, Transport], tenant_budgets: Mapping[str, Budget] | None = None,
        addresses: AgentAddresses | None = None, probe: Probe = no_probe, desk: Desk | None = None,
        teller: Teller | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = store
        self.directory = directory
        self.ids = ids
        self.transports = transports
        self.tenant_budgets = tenant_budgets or {}
        self.stats = Stats()
        self.watcher = Watcher(store.log, poll_ms=settings.watch_poll_ms)
        self.agents = AgentKeeper(
            store.system, store.clock, directory, addresses=addresses, poll_ms=settings.agents_poll_ms
        )
        self.claims = Claims(settings, store, directory, self.stats, self.agents.refresh)
        self.roster = Roster(
            settings, store, directory, ids, self.stats, self.watcher, self.claims.look, self.agents.refresh
        )
        self.modes = ModeKeeper(settings, store, directory, self.stats, self.roster, lambda: self.roster.crew)
        self.agents.on_change = self._agent_changed
        self.agents.sums = self._sums
        self.desk = desk
        if desk is not None:
            self.agents.workers = lambda name: desk.connected().get(name, 0)
        self.health = HealthWatch(
            self.agents, directory, store.clock, store.liveness, incarnation=lambda: self.incarnation, probe=probe
        )
        self.retention = RetentionDuty(settings, store, self.stats, lambda: self.incarnation)
        self.notices = NoticeDuty(settings, store, self.stats, teller)
        self._has_webhook = teller is not None
        self.incarnation = 0
        self._lease_keeper: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start. Raises what `Store.open` and `Liveness.register` raise."""
        await self.store.open()
        await self.agents.start()
        await self.modes.start()
        await self._enlist()
        self.health.start()
        self.retention.start()
        self.notices.start()
        self.watcher.start()
        self.claims.start(self.roster)
        pause_s = self.settings.claim_poll_ms / 1000
        self._lease_keeper = asyncio.create_task(keep(self._keep_lease, pause_s), name="lease")

    async def _enlist(self) -> None:
        """Register, and start the parts that act under this incarnation."""
        lease = await self.store.liveness.register(
            self.settings.name, self.settings.address, self.directory.definitions(), ttl_ms=self.settings.lease_ttl_ms
        )
        self.incarnation = lease.incarnation
        self.stats.incarnations += 1
        clock = self.store.clock
        tracebacks = Tracebacks(clock)
        crew = Crew(
            settings=self.settings, store=self.store, directory=self.directory, ids=self.ids,
            recorder=Recorder(self.store.log, self.settings, self.stats),
            dispatcher=Dispatcher(clock, self.stats, self.transports, tracebacks),
            effects=Effects(self.store.mailbox),
            gates=Gates(
                lease.incarnation, self.store, self.agents, self.directory, settings=self.settings.gates,
                stats=self.stats.gates,
            ),
            purses=Purses(self.store, lease.incarnation, self.tenant_budgets),
            timers=Timers(clock, self.roster.poke), stats=self.stats, tracebacks=tracebacks, lease=lease,
            on_moved=self.watcher.moved, on_due=self.hint, on_notice=self.notices.hint if self._has_webhook else None,
        )  # fmt: skip
        crew.gates.sections[SECTION] = self.modes.signals
        crew.recorder.start()
        crew.dispatcher.start()
        await crew.gates.start()
        await crew.purses.start()
        crew.timers.start()
        self.roster.crew = crew
        logger.info("%s is incarnation %d", self.settings.name, lease.incarnation)

    async def _keep_lease(self) -> None:
        """Start afresh when the lease is lost, because then nothing that this process holds counts any more."""
        crew = self.roster.crew
        if crew is not None:
            await crew.lease.lost()
            logger.warning("incarnation %d is lost: dropping %d runs", self.incarnation, len(self.roster))
            self.roster.crew = None  # first of all: from here on nothing is taken on in its name
            await self._disband(crew)
        while True:
            try:
                await self._enlist()
                return
            except (StoreUnavailable, CoordinatorExists) as error:
                logger.warning("can't register: %s", error)
                await asyncio.sleep(self.settings.claim_poll_ms / 1000)

    async def _disband(self, crew: Crew) -> None:
        """Drop every run, and stop the parts that act for them."""
        await crew.purses.stop()  # first: what drivers settle on their way out is not what the log says
        await self.roster.drop()
        await crew.gates.stop()
        await crew.timers.stop()
        await crew.dispatcher.stop()
        await crew.recorder.stop()

    def hurry(self) -> None:
        """Give calls under way no more time to end."""
        self._hurry.set()

    async def drain(self) -> None:
        """Claim nothing more, and hand each run over as soon as nothing of it is under way here. Idempotent.

        Returns when no run is left, when calls have had their `drain_s`, or after `hurry`.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="coordinator drain")
        await asyncio.shield(self._draining)

    async def _drain(self) -> None:
        crew = self.roster.crew
        if crew is not None:
            crew.is_draining = True
        self.roster.is_closed = True
        await self.claims.stop()
        await self.roster.close()
        if self._lease_keeper is not None:
            self._lease_keeper.cancel()
            await asyncio.gather(self._lease_keeper, return_exceptions=True)
        await asyncio.gather(
            self.roster.drain(self.settings.drain_s, self._hurry),
            self._hand_over(),  # what a claim had just brought, and nobody drives
            self.health.stop(),
            self.retention.stop(),
            self.notices.stop(),
        )

    async def _hand_over(self) -> None:
        with suppress(StoreUnavailable):  # said at the end, if it is still so
            await self.roster.hand_over(self.incarnation)

    async def stop(self) -> None:
        """Drain, and leave. The next owner repeats the calls that are still under way, under their keys."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="coordinator stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await self.drain()
        crew = self.roster.crew
        if crew is not None:
            await self._disband(crew)
            try:
                await self.roster.hand_over(self.incarnation)
                await crew.lease.release()
            except StoreUnavailable:
                logger.warning(
                    "the store can't be reached: what this coordinator owns is taken over when its lease ends"
                )
        await self.modes.stop()
        await self.agents.stop()
        for transport in self.transports.values():
            await transport.close()
        await self.watcher.stop()
        await self.store.close()

    # -- what it is asked ---------------------------------------------------------------------------------------------

    def hint(self, run: str) -> None:
        """Look at this run at once, because it has new mail, and tell the other coordinators."""
        self.claims.hint([run])
        self.store.wakeup.hint([run])

    def _agent_changed(self, name: str) -> None:
        crew = self.roster.crew
        if crew is not None:
            crew.gates.changed(name)

    def _sums(self, agent: str) -> Sums:
        crew = self.roster.crew
        return crew.gates.sums(agent) if crew is not None else Sums()

    @property
    def is_draining(self) -> bool:
        return self.roster.is_closed

    @property
    def load(self) -> float:
        """The share of its room that is taken, 0 to 1."""
        return len(self.roster) / self.settings.runs_max

    def is_ready(self) -> tuple[bool, str]:
        crew = self.roster.crew
        if self.is_draining:
            return False, "leaving"
        if crew is None or not crew.lease.is_trusted():
            return False, "has no lease it can trust: the store can't be reached"
        return True, f"incarnation {self.incarnation}, {len(self.roster)} runs"

    def describe(self) -> Mapping[str, Any]:
        return {
            "name": self.settings.name,
            "incarnation": self.incarnation,
            "store": self.store.description,
            "workflows": [f"{d.workflow} v{d.version} ({d.build})" for d in self.directory.definitions()],
            "agents": [agent.name for agent in self.directory.agents()],
            "runs_active": len(self.roster),
            "limits": {name: getattr(self.settings, name) for name in self.settings.__slots__},
        }

    def metrics(self) -> str:
        crew = self.roster.crew
        gauges = {
            "pointsman_runs_active": float(len(self.roster)),
            "pointsman_runs_cached": float(self.roster.cached),
            "pointsman_calls_active": float(crew.dispatcher.active if crew else 0),
            "pointsman_append_queue_depth": float(crew.recorder.depth if crew else 0),
            "pointsman_ready": float(self.is_ready()[0]),
            "pointsman_mode": float(self.modes.level),
        }
        if self.desk is not None:
            self.stats.workers.waiting = dict(self.desk.waiting())
            self.stats.workers.lost = self.desk.lost
            self.stats.workers.connected = dict(self.desk.connected())
        return prometheus(self.stats, gauges)
