"""Watch the other coordinators: each death is reported once, when its lock is freed or at the latest when its lease
expires.

In a ring, each coordinator waits on the lock of the next living one; that wait ends within milliseconds of a
process's death. A freed lock is only a hint (a session can end without its process), confirmed by a second witness or
after a short while (`confirming.py`).
A coordinator that joins, or that ends an incarnation, tells all others in the same transaction; a wait on a lock that
is no longer the next one is then cut short. In addition, everyone checks regularly which incarnations live, which
leases have expired, and which ended incarnations still own runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.postgres.confirming import refuses, until_surely_dead
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.queries import load

LOCK_WAIT_MS = 1_000
"""How often a wait on a lock is begun again: otherwise a dead connection would never be noticed."""
UNSEEN_POLL_S = 0.1
RETRY_S = 0.1

logger = logging.getLogger("pointsman.liveness")

_SQL = load(__package__, "liveness")


class Watch:
    """A service for one incarnation: `start`, `next_death`, `stop`.

    Args:
        in_touch_ms: for how long this process itself has reached the database without a gap.
        dead_owners: ended incarnations that still own runs.
    """

    def __init__(
        self, server: Server, readers: Pool, key: int, own: int,
        in_touch_ms: Callable[[], int], ttl_ms: int, dead_owners: Callable[[], Awaitable[Sequence[int]]],
    ) -> None:  # fmt: skip
        self.own = own
        self._server = server
        self._readers = readers
        self._key = key
        self._in_touch_ms = in_touch_ms
        self._ttl_ms = ttl_ms
        self._dead_owners = dead_owners
        self._link = Link(server, {"lock_timeout": str(LOCK_WAIT_MS)}, codecs=False)
        self._living: list[int] = []
        self._addresses: dict[int, str] = {}
        self._told: set[int] = set()
        """Ends that were passed on to `next_death`; they are kept, for a few bytes each."""
        self._deaths: asyncio.Queue[int] = asyncio.Queue()
        self._looked = asyncio.Event()
        self._look_again = asyncio.Event()
        self._next: int | None = None
        """The incarnation whose lock is waited for."""
        self._next_is_another = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        duties = (("looking around", self._look_around), ("watching the next", self._watch_next))
        self._tasks = [asyncio.create_task(self._keep(duty), name=name) for name, duty in duties]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._link.abort()
        self._deaths.put_nowait(-1)

    async def next_death(self) -> int:
        """Wait for the next death. Raises StoreUnavailable once the watch is stopped."""
        death = await self._deaths.get()
        if death < 0:
            self._deaths.put_nowait(death)
            raise StoreUnavailable("this store is closed")
        return death

    def was_enlisted(self, number: int) -> None:
        """Note that an incarnation has joined; may be called at any time. Everything else about it is looked up."""
        if number not in self._living:
            self._look_again.set()

    def was_ended(self, number: int) -> None:
        """Note that an incarnation has ended; may be called at any time. It is passed on once."""
        if number in self._living:
            self._living.remove(number)
            self._ring_changed()
        if number != self.own and number not in self._told:
            self._told.add(number)
            self._deaths.put_nowait(number)

    async def _keep(self, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await duty()
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)
            except Exception:
                logger.exception("watching failed; it goes on")
                await asyncio.sleep(RETRY_S)

    # -- everyone, by their leases -----------------------------------------------------------------------------

    async def _look_around(self) -> None:
        self._look_again.clear()
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["members"]))
        self._addresses = {row["incarnation"]: row["address"] for row in rows}
        living = [row["incarnation"] for row in rows if row["incarnation"] != self.own]
        gone = [number for number in self._living if number not in living]
        self._living = living
        self._looked.set()
        self._ring_changed()
        in_touch_ms = self._in_touch_ms()
        if in_touch_ms and any(row["is_expired"] for row in rows):
            ended = await self._readers.call(
                lambda connection: connection.fetch(_SQL["end_expired"], self.own, in_touch_ms)
            )
            for row in ended:
                self._end_of(row["incarnation"], "its lease ran out")
        for number in gone:
            self.was_ended(number)
        for number in await self._dead_owners():
            if number in self._told:
                self._deaths.put_nowait(0)  # its runs could not be claimed yet
            self.was_ended(number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._server.settings.ring_refresh_ms / 1000):
                await self._look_again.wait()

    # -- the next one, by its lock -----------------------------------------------------------------------------

    def _ring_changed(self) -> None:
        if self._who_is_next() != self._next:
            self._next_is_another.set()

    def _who_is_next(self) -> int | None:
        return min(self._living, key=lambda number: (number < self.own, number), default=None)

    async def _watch_next(self) -> None:
        await self._looked.wait()
        self._next_is_another.clear()
        self._next = target = self._who_is_next()
        if target is None:
            await self._next_is_another.wait()
        elif await self._link.call(lambda connection: self._outlive(connection, target), retry=False):
            self._end_of(target, "its process is gone")

    async def _outlive(self, connection: Connection, target: int) -> bool:
        """Wait until `target` is dead, and end it; False if it is not dead. All on one connection: if that breaks in
        between, the database restarted and nobody died.
        """
        if await connection.fetchval(_SQL["is_free"], self._key, target):
            # Never seen held: after a restart of the database its holder may not be back yet, but it listens.
            if self._in_touch_ms() < self._ttl_ms and not await refuses(self._addresses.get(target, ""), UNSEEN_POLL_S):
                await asyncio.sleep(UNSEEN_POLL_S)
                return False
        else:
            await connection.execute(_SQL["watch_one"], self._key, target)
            await self._wait_until_free(connection)
            if not await connection.fetchval(_SQL["was_freed"]):
                return False
        await until_surely_dead(self._addresses.get(target, ""), self._server.settings)
        return await connection.fetchval(_SQL["end_if_free"], self._key, target, target) is not None

    async def _wait_until_free(self, connection: Connection) -> None:
        waiting = asyncio.create_task(connection.execute(_SQL["wait_until_free"]), name="waiting for a lock")
        leaving = asyncio.create_task(self._next_is_another.wait(), name="watching another")
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not waiting.done():
            with contextlib.suppress(StoreUnavailable):  # then it ends by itself
                await self._readers.call(
                    lambda reader: reader.execute(_SQL["wait_no_more"], connection.get_server_pid())
                )
        await waiting

    def _end_of(self, number: int, why: str) -> None:
        logger.warning("incarnation %d is dead (%s): ended by incarnation %d", number, why, self.own)
        self.was_ended(number)
