"""The HTTP server of a coordinator, and of agents: binds, serves, and stops without dropping requests under way.

It uses Uvicorn's protocol without Uvicorn's `Server`, which installs signal handlers, exits the process if the port is
taken, and polls ten times a second. Must not know routes, nor why it is asked to stop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config

from pointsman.api.app import Api, Observer
from pointsman.api.connections import Connections
from pointsman.api.settings import ApiSettings
from pointsman.api.waiting import Waiting
from pointsman.ports.agents import Agents, Attempts
from pointsman.ports.budgets import Budgets
from pointsman.ports.inbox import Inbox
from pointsman.ports.modes import Modes
from pointsman.ports.runs import Runs, Status
from pointsman.ports.workers import Workers

BACKLOG = 1_024
DATE_INTERVAL_S = 1.0
CANCEL_GRACE_S = 1.0

logger = logging.getLogger("pointsman.api")


class Server:
    """Serves an ASGI application over HTTP with deadlines and limits. Start once, stop any number of times.

    Args:
        waiting: the waits of the application, ended when the server stops.

    Raises:
        InsecureBind, InvalidSetting: from `settings.validate()`.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings, waiting: Waiting) -> None:
        settings.validate()
        self._settings = settings
        self._waiting = waiting
        config = Config(
            app, interface="asgi3", lifespan="off", ws="none", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, http="httptools",
        )  # fmt: skip
        config.load()
        self.connections = Connections(config, settings)
        self._server: asyncio.Server | None = None
        self._loops: list[asyncio.Task[Any]] = []
        self._stopped: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is bound, also if the settings left it open."""
        if self._server is None:
            raise RuntimeError("the server has not started")
        return self._port

    async def start(self) -> None:
        """Bind and serve. Raises: OSError (the address is taken, or not ours)."""
        if self._server is not None:
            raise RuntimeError("the server has started already")
        self._set_date()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self.connections.accept, self._settings.host, self._settings.port, backlog=BACKLOG
        )
        self._port: int = self._server.sockets[0].getsockname()[1]
        self._loops = [
            loop.create_task(self.connections.sweep_forever(), name="api sweep"),
            loop.create_task(self._date_forever(), name="api date"),
        ]

    def drain(self) -> None:
        """End waits and streams, now and later, so that clients go elsewhere. Everything else is still served."""
        self._waiting.stop()

    async def stop(self) -> None:
        """Stop accepting, end waits and streams so that clients go elsewhere, finish the rest, close. Idempotent."""
        if self._server is None:
            return
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop(self._server), name="api stop")
        await asyncio.shield(self._stopped)

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        self._waiting.stop()
        for connection in list(self.connections.all):
            connection.shutdown()
        tasks = self.connections.state.tasks
        if await _left_after(tasks, self._settings.stop_timeout_s):
            logger.warning("%d requests were still under way after %g s", len(tasks), self._settings.stop_timeout_s)
            for task in list(tasks):
                task.cancel()
            await _left_after(tasks, CANCEL_GRACE_S)
        for connection in list(self.connections.all):
            connection.transport.close()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._cut_stragglers()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), CANCEL_GRACE_S)

    async def _cut_stragglers(self) -> None:
        """Cut connections whose clients do not read: closing waits until everything is written."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.connections.empty.wait(), CANCEL_GRACE_S)
        for connection in list(self.connections.all):
            connection.transport.abort()

    async def _date_forever(self) -> None:
        while True:
            await asyncio.sleep(DATE_INTERVAL_S)
            self._set_date()

    def _set_date(self) -> None:
        self.connections.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]


class ApiServer(Server):
    """Serves a coordinator's `Runs` and `Status`, and the cluster's `Agents` and `Attempts`.

    Args:
        agents, attempts, inbox, budgets, modes, workers: without one of them its routes do not exist.
        observer: called for every request (route, method, status, seconds), for metrics.

    Raises:
        InsecureBind, InvalidSetting: from `settings.validate()`.
    """

    def __init__(
        self,
        runs: Runs,
        status: Status,
        settings: ApiSettings,
        *,
        agents: Agents | None = None,
        attempts: Attempts | None = None,
        inbox: Inbox | None = None,
        budgets: Budgets | None = None,
        modes: Modes | None = None,
        workers: Workers | None = None,
        observer: Observer | None = None,
    ) -> None:
        waiting = Waiting()
        self.app = Api(
            runs, status, settings, agents=agents, attempts=attempts, inbox=inbox, budgets=budgets,
            modes=modes, workers=workers, waiting=waiting, observer=observer,
        )  # fmt: skip
        super().__init__(self.app, settings, waiting)


async def _left_after(tasks: set[asyncio.Task[None]], timeout_s: float) -> int:
    """How many tasks are left after `timeout_s`. Requests that come meanwhile are waited for too."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while tasks and (left_s := deadline - loop.time()) > 0:
        await asyncio.wait(set(tasks), timeout=left_s)
        await asyncio.sleep(0)
    return len(tasks)
