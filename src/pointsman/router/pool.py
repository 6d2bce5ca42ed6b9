"""The connections to coordinators: opened, kept for the next request, closed when unused.

Must not know what is sent on them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pointsman.router.settings import RouterSettings, parse_address
from pointsman.router.upstream import Receiver, UpstreamConnection


class Pool:
    """The connections to one address."""

    def __init__(self, address: str, settings: RouterSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.host, self.port = parse_address(address)
        self.open: set[UpstreamConnection] = set()
        self.busy: set[UpstreamConnection] = set()
        self._idle: list[UpstreamConnection] = []
        self._clock = clock

    def take(self) -> UpstreamConnection | None:
        """The one used last: the others may grow old and be closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    def give_back(self, connection: UpstreamConnection) -> None:
        self.busy.discard(connection)
        if len(self._idle) >= self.settings.upstream_idle_max:
            connection.close()
            return
        connection.idle_since = self._clock()
        self._idle.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        self.open.discard(connection)
        self.busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        limit = now - self.settings.upstream_idle_s
        for connection in [c for c in self._idle if c.idle_since <= limit]:
            self._idle.remove(connection)
            connection.close()


class Upstreams:
    """All pools, and the connections being opened."""

    def __init__(self, settings: RouterSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._pools: dict[str, Pool] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def pool(self, address: str) -> Pool:
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = Pool(address, self._settings, self._clock)
        return pool

    @property
    def open(self) -> int:
        return sum(len(pool.open) for pool in self._pools.values())

    def connect(self, address: str, receiver: Receiver) -> None:
        """Tells the receiver `on_connected` or `on_connect_failed`."""
        task = asyncio.get_running_loop().create_task(self._connect(self.pool(address), receiver))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self, pool: Pool, receiver: Receiver) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_s):
                _, connection = await loop.create_connection(lambda: UpstreamConnection(pool), pool.host, pool.port)
        except OSError as error:  # TimeoutError is one
            receiver.on_connect_failed(error)
            return
        receiver.on_connected(connection)

    def coordinator_silent(self, address: str) -> None:
        for connection in list(self.pool(address).busy):
            connection.coordinator_silent()

    def sweep(self, now: float) -> None:
        for address, pool in list(self._pools.items()):
            pool.sweep(now)
            if not pool.open and not self._opening:
                del self._pools[address]

    async def close(self) -> None:
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for pool in self._pools.values():
            for connection in list(pool.open):
                connection.abandon()
