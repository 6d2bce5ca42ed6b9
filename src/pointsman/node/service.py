"""One coordinator process: the coordinator, its HTTP API and its announcements to the routers, started and
stopped in the order in which no request and no run is lost.

It wires rooms together as `app.py` does, one level above it. Must not know command lines, signals or other
processes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from pointsman.agents.addresses import AgentAddresses
from pointsman.api import ApiServer, ApiSettings
from pointsman.app import App, HttpAgents, Webhook
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.reports import CoordinatorAttempts
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.coordinator.verbs.workers import CoordinatorWorkers
from pointsman.kernel.errors import StoreUnavailable
from pointsman.node.addresses import AddressInUse, free_port, join_address
from pointsman.node.announcing import Announcer
from pointsman.node.peers import Peers
from pointsman.node.recycling import Limits, Recycler
from pointsman.node.turn import Turn
from pointsman.ports.store import Store
from pointsman.process import own_hash_seed

API_STOP_S = 1.0
"""How long requests in flight delay the end of the incarnation. Those that take longer end meanwhile."""

logger = logging.getLogger("pointsman.node")


@dataclass(frozen=True)
class NodeSettings:
    """Attributes:
    coordinator: `address` is filled in from `api`.
    api: port 0 for any free one.
    routers: base URLs of the routers to announce to.
    announce_token: what routers want to hear, if that is not the API's token.
    advertise: `host:port` under which routers reach the API, where that is not what it binds.
    agents: where agents that register may be.
    agents_token: what agents behind HTTP want to hear as `Authorization: Bearer`.
    webhook: who is told of human tasks.
    callback: base URL of the API as such agents reach it; this coordinator's own address without.
    limits: of the process's age and memory, beyond which it is to be replaced.
    """

    coordinator: CoordinatorSettings = field(default_factory=CoordinatorSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    routers: Sequence[str] = ()
    announce_token: str | None = None
    advertise: str | None = None
    agents: AgentAddresses = field(default_factory=AgentAddresses)
    agents_token: str | None = None
    webhook: Webhook | None = None
    callback: str | None = None
    limits: Limits = field(default_factory=Limits)


class Node:
    """A coordinator process's inside. `start` once; `stop` twice is once.

    Raises:
        InsecureBind, InvalidSetting: from `ApiSettings.validate`.
    """

    def __init__(self, app: App, store: Store, settings: NodeSettings) -> None:
        settings.api.validate()
        self._app = app
        self._store = store
        self._settings = settings
        self._announcer: Announcer | None = None
        self._peers = Peers(settings.api.token)
        self._api: ApiServer | None = None
        self._turn = Turn(settings.coordinator.name, store.system, store.clock)
        away_s = settings.coordinator.drain_s + settings.coordinator.restart_s
        self._recycler = Recycler(settings.limits, self._turn, away_ms=round(away_s * 1000), clock=time.monotonic)
        self._hurried = asyncio.Event()
        self._stopping: asyncio.Task[None] | None = None
        self.address = ""
        self.coordinator: Coordinator

    async def start(self) -> None:
        """Register, then listen, then tell the routers: nobody is sent here before it can do the work.

        Raises:
            AddressInUse; and what `Coordinator.start` raises.
        """
        api, settings = self._settings.api, self._settings
        port = free_port(api.host, api.port)
        self.address = settings.advertise or join_address(api.host, port)
        http = HttpAgents(settings.agents, settings.callback or f"http://{self.address}", settings.agents_token)
        self.coordinator = coordinator = self._app.coordinator(
            self._store, replace(settings.coordinator, address=self.address), http, settings.webhook
        )
        bytes_max = self._app.value_bytes_max
        self._api = ApiServer(
            CoordinatorRuns(coordinator, bytes_max=bytes_max), self, msgspec.structs.replace(api, port=port),
            agents=coordinator.agents,
            attempts=CoordinatorAttempts(coordinator, self._peers.forward, bytes_max=bytes_max),
            inbox=CoordinatorInbox(coordinator, bytes_max=bytes_max),
            budgets=CoordinatorBudgets(self._store.system, self._store.clock),
            modes=coordinator.modes,
            workers=self._workers(coordinator),
            observer=coordinator.stats.observe_request,
        )  # fmt: skip
        try:
            await self.coordinator.start()
        except BaseException:
            with suppress(Exception):
                await self._store.close()
            raise
        try:
            await self._api.start()
        except OSError as error:
            await self.coordinator.stop()
            raise AddressInUse(f"{self.address}: {error.strerror or error}; give another --port, or 0") from error
        token = settings.announce_token or api.token
        self._announcer = Announcer(self.coordinator, self.address, settings.routers, token)
        await self._announcer.start()
        await self._give_back_turn()
        self._recycler.start()

    def _workers(self, coordinator: Coordinator) -> CoordinatorWorkers | None:
        if coordinator.desk is None:
            return None
        return CoordinatorWorkers(coordinator, coordinator.desk, self._peers.forward)

    async def _give_back_turn(self) -> None:
        """If this process replaces one of its name that took its turn, the next coordinator may."""
        try:
            if await self._turn.give_back():
                logger.info("back: the turn to be replaced is free")
        except StoreUnavailable as error:
            logger.warning("the turn to be replaced is not given back, and lapses: %s", error)

    async def until_worn(self) -> None:
        """Returns when this process is beyond its limits and has the cluster's turn: it is to stop, and to come back
        as a new one."""
        await self._recycler.is_due.wait()

    def hurry(self) -> None:
        """Nothing that is under way gets more time."""
        self._hurried.set()
        if self._api is not None:
            self.coordinator.hurry()

    async def stop(self) -> None:
        """Leave: routers hear of it at once, runs are handed over, requests in flight are answered or sent
        elsewhere."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="node stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        await self._recycler.stop()
        if self._api is None or self._announcer is None:
            return
        # The API goes on meanwhile: it sends elsewhere what would wait or begin something, reads are answered, and
        # agents whose calls come to their end here still report to it.
        self._api.drain()
        await asyncio.gather(self._announcer.leave(), self.coordinator.drain())
        # Then the API first: its answers need an open store.
        api = asyncio.create_task(self._api.stop(), name="api stop")
        hurried = asyncio.create_task(self._hurried.wait(), name="hurried")
        await asyncio.wait([api, hurried], timeout=API_STOP_S, return_when=asyncio.FIRST_COMPLETED)
        await self.coordinator.stop()
        await asyncio.wait([api, hurried], return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        await self._peers.close()

    def is_ready(self) -> tuple[bool, str]:
        return self.coordinator.is_ready()

    def metrics(self) -> str:
        return self.coordinator.metrics()

    def describe(self) -> Mapping[str, Any]:
        """What it is, with every limit that is in force."""
        said = dict(self.coordinator.describe())
        limits = dict(said.pop("limits"))
        limits.pop("name", None)
        limits.pop("address", None)
        return {
            "app": self._app.name,
            **said,
            "address": self.address,
            "hash_seed": own_hash_seed(),
            "routers": list(self._settings.routers),
            "limits": {
                **limits,
                **{f"api.{name}": value for name, value in self._settings.api.limits().items()},
            },
        }
