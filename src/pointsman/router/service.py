"""The router as a service: bound, swept, stopped.

Must not know requests.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections.abc import Callable

from pointsman.router.probing import Prober
from pointsman.router.protocol import ClientConnection
from pointsman.router.settings import RouterSettings
from pointsman.router.state import RouterState

logger = logging.getLogger("pointsman.router")

_FILES_APART = 64
"""Descriptors that are neither clients nor connections to coordinators."""


class RouterService:
    """One router.

    Args:
        settings: limits and addresses.
        clock: seconds that never go back; tests give their own and call `sweep`.
    """

    def __init__(self, settings: RouterSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._router = RouterState(settings, clock)
        self._prober = Prober(self._router)
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._listener: asyncio.TimerHandle | None = None
        self._stop_wanted = asyncio.Event()
        self._stopped = False
        self._empty = asyncio.Event()

    @property
    def port(self) -> int:
        """The bound port. Raises: RuntimeError (not started)."""
        if self._server is None:
            raise RuntimeError("the router is not started; await start() first")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def limits(self) -> dict[str, object]:
        """The settings as they took effect, for printing at the start; without secrets."""
        shown = {name: getattr(self.settings, name) for name in self.settings.__struct_fields__}
        shown |= {name: shown[name] is not None for name in ("token", "announce_token")}
        return shown | {"connections_max": self._router.connections_max}

    async def start(self) -> None:
        """Bind and serve. Raises: OSError (the address is taken)."""
        if self._server is not None:
            return
        self._router.connections_max = _files_for(self.settings.connections_max)
        if self._router.connections_max < self.settings.connections_max:
            logger.warning(
                "only %d client connections: the limit of open files allows no more; raise `ulimit -n`",
                self._router.connections_max,
            )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ClientConnection(self._router), self.settings.host, self.settings.port, backlog=1_024
        )
        self._sweeper = loop.call_later(self.settings.sweep_every_s, self._sweep_again)
        self._listener = loop.call_later(self.settings.silence_every_s, self._listen_again)
        self._prober.start()
        logger.info("router on %s port %d", self.settings.host, self.port)

    def request_stop(self) -> None:
        """For signal handlers: `serve` returns after it has stopped."""
        self._stop_wanted.set()

    async def serve(self) -> None:
        """Start, serve until `request_stop`, stop."""
        await self.start()
        try:
            await self._stop_wanted.wait()
        finally:
            await self.stop()

    def hurry(self) -> None:
        """While it stops: what is under way gets no more time."""
        for client in list(self._router.clients):
            client.abort()

    async def stop(self) -> None:
        """Take no more, finish what is under way within `stop_timeout_s`, close. Idempotent."""
        if self._server is None or self._stopped:
            return
        self._stopped = self._router.stopping = True
        self._server.close()
        self._router.on_client_gone = self._check_empty
        for client in list(self._router.clients):
            client.drain()
        await self._wait_empty(self.settings.stop_timeout_s)
        for client in list(self._router.clients):
            client.abort()
        await self._wait_empty(1.0)
        for timer in (self._sweeper, self._listener):
            if timer is not None:
                timer.cancel()
        await self._prober.stop()
        await self._router.upstreams.close()
        await self._server.wait_closed()

    def sweep(self) -> None:
        """Look at every deadline. The router does it by itself every `sweep_every_s`."""
        router, now = self._router, self._clock()
        self.listen()
        for client in list(router.clients):
            client.sweep(now)
        router.upstreams.sweep(now)
        router.metrics.forget({row["name"] for row in router.membership.rows(now)})

    def listen(self) -> None:
        """Look who has fallen silent. The router does it by itself every `silence_every_s`."""
        router = self._router
        for member in router.membership.fallen_silent(self._clock()):
            logger.warning("coordinator %s fell silent; its requests go elsewhere", member.name)
            router.upstreams.coordinator_silent(member.address)

    def _listen_again(self) -> None:
        self._listener = asyncio.get_running_loop().call_later(self.settings.silence_every_s, self._listen_again)
        self.listen()

    def _sweep_again(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self.settings.sweep_every_s, self._sweep_again)
        self.sweep()

    def _check_empty(self) -> None:
        if not self._router.clients:
            self._empty.set()

    async def _wait_empty(self, timeout_s: float) -> None:
        self._check_empty()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return


def _files_for(connections: int) -> int:
    """Raise the soft limit of open files to what the connections need, each with one to a coordinator.
    Returns how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + _FILES_APART
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, (soft - _FILES_APART) // 2))
