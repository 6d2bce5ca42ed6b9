"""One coordinator process: the coordinator, its HTTP API and its announcements to the routers, started and
stopped in the order in which no request and no run is lost.

It wires rooms together as `app.py` does, one level above it. Must not know command lines, signals or other
processes.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import httpx

from pointsman.agents.addresses import AgentAddresses
from pointsman.api import ApiServer, ApiSettings
from pointsman.app import App, HttpAgents
from pointsman.coordinator.budgets.verbs import Budgets
from pointsman.coordinator.inbox import CoordinatorInbox
from pointsman.coordinator.reports import CoordinatorAttempts
from pointsman.coordinator.runs import CoordinatorRuns
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import PointsmanError, SchemaMissing, StoreUnavailable
from pointsman.ports.agents import AttemptOver
from pointsman.ports.store import Store
from pointsman.stores.postgres.server import ConnectError, Server
from pointsman.stores.postgres.settings import PostgresSettings

ANNOUNCE_EVERY_S = 0.5
ANNOUNCE_TIMEOUT_S = 1.0
LEAVE_TIMEOUT_S = 0.5
FORWARD_TIMEOUT_S = 2.0
UNHEARD_TIMES = 4
"""Failures in a row that are worth a word: a router may start or restart meanwhile."""
API_STOP_S = 1.0
"""How long requests in flight delay the hand-over of runs. Those that take longer end meanwhile."""
HASH_SEED_KEY = "hash_seed"
HASH_SEED_MAX = 2**32 - 1

logger = logging.getLogger("pointsman.node")


class AddressInUse(PointsmanError):
    """Another process listens on this address: give another --port, or 0 for any free one."""

    code = "address_in_use"


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
    callback: base URL of the API as such agents reach it; this coordinator's own address without.
    """

    coordinator: CoordinatorSettings = field(default_factory=CoordinatorSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    routers: Sequence[str] = ()
    announce_token: str | None = None
    advertise: str | None = None
    agents: AgentAddresses = field(default_factory=AgentAddresses)
    agents_token: str | None = None
    callback: str | None = None


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
            self._store, replace(settings.coordinator, address=self.address), http
        )
        bytes_max = self._app.value_bytes_max
        self._api = ApiServer(
            CoordinatorRuns(coordinator, bytes_max=bytes_max), coordinator, _with_port(api, port),
            agents=coordinator.agents,
            attempts=CoordinatorAttempts(coordinator, self._peers.forward, bytes_max=bytes_max),
            inbox=CoordinatorInbox(coordinator, bytes_max=bytes_max),
            budgets=Budgets(self._store.system, self._store.clock),
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
        self._announcer.start()

    async def stop(self) -> None:
        """Leave: routers hear of it first, requests in flight are answered, runs are handed over."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="node stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._announcer is not None:
            await self._announcer.leave()
        if self._api is None:
            return
        # The API first: its answers need a coordinator with an open store. But runs wait for an owner.
        api = asyncio.create_task(self._api.stop(), name="api stop")
        await asyncio.wait([api], timeout=API_STOP_S)
        await self.coordinator.stop()
        await api
        await self._peers.close()

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
            "routers": list(self._settings.routers),
            "limits": {
                **limits,
                **{f"api.{name}": value for name, value in self._settings.api.limits().items()},
            },
        }


class Peers:
    """The other coordinators, as far as reports of agents have to be passed on to them."""

    def __init__(self, token: str | None) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=FORWARD_TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def forward(self, address: str, path: str, body: Mapping[str, Any]) -> None:
        """Raises AttemptOver, StoreUnavailable: it does not answer."""
        try:
            response = await self._http.post(f"http://{address}{path}", json=dict(body))
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"the coordinator at {address} does not answer: {error}") from error
        if response.status_code in (404, 409):
            raise AttemptOver
        if not response.is_success:
            raise StoreUnavailable(f"the coordinator at {address} answers {response.status_code}")


class Announcer:
    """Says to each router every half second that this coordinator lives, and once that it leaves."""

    def __init__(self, coordinator: Coordinator, address: str, routers: Sequence[str], token: str | None) -> None:
        self._coordinator = coordinator
        self._address = address
        self._routers = [router.rstrip("/") for router in routers]
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=ANNOUNCE_TIMEOUT_S, trust_env=False)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._announce_forever(router), name=f"announce to {router}")
            for router in self._routers
        ]

    async def leave(self) -> None:
        """Tell all routers, as far as they answer soon, and be silent from then on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        goodbyes = (self._announce(router, leaving=True) for router in self._routers)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*goodbyes), LEAVE_TIMEOUT_S)
        await self._http.aclose()

    async def _announce_forever(self, router: str) -> None:
        failures = 0
        while True:
            trouble = await self._announce(router, leaving=False)
            if not trouble and failures >= UNHEARD_TIMES:
                logger.warning("router %s hears us again", router)
            failures = failures + 1 if trouble else 0
            if failures == UNHEARD_TIMES:
                logger.warning("router %s does not hear us: %s; going on trying", router, trouble)
            await asyncio.sleep(ANNOUNCE_EVERY_S)

    async def _announce(self, router: str, *, leaving: bool) -> str:
        """Empty when the router took it, else why not. Not ready: silence sends requests elsewhere."""
        if not leaving and not self._coordinator.is_ready()[0]:
            return ""
        said = {
            "name": self._coordinator.settings.name,
            "address": self._address,
            "incarnation": self._coordinator.incarnation,
            "load": self._coordinator.load,
            "leaving": leaving,
        }
        try:
            response = await self._http.post(f"{router}/router/announce", json=said)
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        return "" if response.is_success else f"it answers {response.status_code} {response.text[:200]}"


async def hash_seed(dsn: str) -> int:
    """The seed of string hashes that all coordinators of a cluster share; the first one to ask draws it.

    Raises:
        StoreUnavailable, SchemaMissing.
    """
    server = Server(dsn, PostgresSettings())
    try:
        connection, _ = await server.connect({}, codecs=False)
    except ConnectError as error:
        text = str(error) or type(error).__name__
        raise StoreUnavailable(f"{server.description} can't be reached: {text}") from error
    try:
        drawn = str(random.SystemRandom().randint(1, HASH_SEED_MAX))
        await connection.execute(
            "INSERT INTO cluster (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
            HASH_SEED_KEY,
            drawn,
        )
        return int(await connection.fetchval("SELECT value FROM cluster WHERE key = $1", HASH_SEED_KEY))
    except asyncpg.UndefinedTableError as error:
        raise SchemaMissing from error
    except ConnectError as error:
        raise StoreUnavailable(f"{server.description} refused: {error}") from error
    finally:
        connection.terminate()


def free_port(host: str, wanted: int = 0) -> int:
    """`wanted` if nobody listens there, any free one for 0. Raises: AddressInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), wanted))
        except OSError as error:
            raise AddressInUse(
                f"{join_address(host, wanted)}: {error.strerror or error}; give another --port, or 0 for any free one"
            ) from error
        return int(probe.getsockname()[1])


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _with_port(api: ApiSettings, port: int) -> ApiSettings:
    values = {name: getattr(api, name) for name in api.__struct_fields__}
    return ApiSettings(**{**values, "port": port})
