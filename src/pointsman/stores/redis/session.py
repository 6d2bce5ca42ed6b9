"""The way to the server: two connections for appends, a few for the rest, and one whose end tells that the process has
ended. Each operation is one script (`lua/`): it happens whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.redis import connections, scripts
from pointsman.stores.redis.clock import RedisClock
from pointsman.stores.redis.connections import Single, guarded, seen_with, text
from pointsman.stores.redis.server import DURABLE, LOST, StoreNotDurable, check_server, not_durable
from pointsman.stores.redis.settings import RedisSettings

LANES: Final = 2
FIRST_READINGS: Final = 3
"""Number of readings of the server's clock when the store is opened."""
CLOSE_S: Final = 1.0
"""How long a store that is closed waits for operations under way, after telling them."""
SCRIPTS: Final = scripts.load()
T = TypeVar("T")

logger = logging.getLogger("pointsman.store")


class Blobs(list[bytes]):
    """Values of bytes, which MessagePack in Lua does not support: each is referred to by its index in the arguments."""

    def add(self, value: bytes) -> int:
        self.append(bytes(value))
        return len(self) + 2


class Session:
    """Open or closed. `call` while it is open."""

    def __init__(self, settings: RedisSettings, clock: RedisClock) -> None:
        self.settings = settings
        self.prefix = f"{settings.prefix}:"
        self.is_open = False
        self.reached_since: float | None = None
        self.reached_at = 0.0
        self.clock = clock
        self._pool: Redis | None = None
        self._lanes: list[Single] = []
        self._doubtful: set[str] = set()
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._presence: Single | None = None

    async def open(self) -> None:
        """Raises StoreUnavailable, StoreNotDurable, StoreUnsupported."""
        self._pool = connections.pooled(self.settings, self.settings.connections_max)
        self._lanes = [Single(self.settings) for _ in range(LANES)]
        self._presence = Single(self.settings)
        self.is_open = True
        try:
            check_server(await self.command("INFO"))
            await self._check_durable()
            for _ in range(FIRST_READINGS):
                await self.measure()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close; operations under way fail as if the connection had broken."""
        self.is_open = False
        singles = [*self._lanes, *filter(None, [self._presence])]
        clients = [*(single.client for single in singles), *filter(None, [self._pool])]
        for client in clients:
            await client.connection_pool.disconnect()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle(), CLOSE_S)
        for client in clients:
            await connections.close(client)
        self._lanes, self._pool, self._presence = [], None, None

    def enter(self) -> None:
        """Raises StoreUnavailable: the store is closed."""
        if not self.is_open:
            raise StoreUnavailable("this store is closed; open it first")

    async def _idle(self) -> None:
        while self._under_way:
            self._is_idle.clear()
            await self._is_idle.wait()

    async def _answered(self, answer: Awaitable[T]) -> T:
        """Raises StoreUnavailable."""
        self._under_way += 1
        try:
            return await guarded(answer)
        except StoreUnavailable:
            self.reached_since = None
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_idle.set()

    # -- operations ---------------------------------------------------------------------------------------------------

    async def call(self, operation: str, blobs: list[bytes] | None = None, **arguments: Any) -> Any:
        """`operation`: `topic.function` of `lua/topic.lua`. Raises StoreUnavailable."""
        self.enter()
        assert self._pool is not None
        return await self._run(self._pool, operation, blobs or [], arguments)

    async def append(self, lane: int, blobs: list[bytes], **arguments: Any) -> Any:
        """Like `call`, on the connection of a lane. What was sent on a connection that broke has an unknown outcome."""
        self.enter()
        single = self._lanes[lane % LANES]
        async with single.lock:
            self.enter()
            if not single.identity:
                single.identity, _ = await self._answered(seen_with(single.client, []))
            try:
                return await self._run(single.client, "append.append", blobs, arguments)
            except (StoreUnavailable, asyncio.CancelledError):
                self._doubtful.add(single.identity)
                single.identity = ""
                raise

    async def settle_doubt(self) -> None:
        """Make sure that nothing that this process sent on a broken connection can still be executed."""
        doubtful = list(self._doubtful)
        if doubtful:
            here, gone = await self.presence(doubtful)
            run = here.partition(":")[0]
            for known in set(doubtful) - gone:
                if known.startswith(f"{run}:"):  # else the server was restarted, and nobody is connected as before
                    await self.command("CLIENT KILL", "ID", known.partition(":")[2])
        self._doubtful.difference_update(doubtful)

    async def command(self, *words: Any) -> Any:
        """A plain command. Raises StoreUnavailable."""
        self.enter()
        assert self._pool is not None
        answer: Awaitable[Any] = self._pool.execute_command(*words)  # type: ignore[no-untyped-call]
        return await self._answered(answer)

    async def measure(self) -> None:
        """Read the server's clock."""
        sent = time.monotonic()
        seconds, micros = await self.command("TIME")
        self.clock.measured(int(seconds) * 1000 + int(micros) // 1000, sent, time.monotonic())

    async def presence(self, others: list[str]) -> tuple[str, set[str]]:
        """The connection whose end tells others that this process has ended, made anew where it broke; and which of
        these others have ended. Raises StoreUnavailable."""
        self.enter()
        assert self._presence is not None
        async with self._presence.lock:
            self.enter()
            return await self._answered(seen_with(self._presence.client, others))

    async def durability(self) -> dict[str, str]:
        """How the server is set up, as far as it matters to what it has acknowledged. Raises StoreUnavailable."""
        found: dict[str, str] = {}
        for name in DURABLE:
            answer = await self.command("CONFIG GET", name)
            pairs = answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))
            found.update({text(key): text(value) for key, value in pairs.items()})
        return found

    async def _run(self, client: Redis, operation: str, blobs: list[bytes], arguments: dict[str, Any]) -> Any:
        topic, _, function = operation.partition(".")
        packed = msgspec.msgpack.encode({name: value for name, value in arguments.items() if value is not None})
        words = (1, self.prefix, function, packed, *blobs)
        sent = time.monotonic()
        answer = await self._answered(_evaluate(client, SCRIPTS[topic], words))
        self.reached_since = sent if self.reached_since is None else self.reached_since
        self.reached_at = sent
        return answer

    async def _check_durable(self) -> None:
        try:
            wrong = not_durable(await self.durability())
        except StoreUnavailable as error:
            if "CONFIG" not in str(error) and "NOPERM" not in str(error):
                raise
            logger.warning("Redis does not say how it is set up (%s): unless it is %s, %s", error, DURABLE, LOST)
            return
        if wrong and not self.settings.is_unsafe:
            raise StoreNotDurable(f"{wrong}: {LOST}. Set these, or say unsafe=1 in the URL where that does not matter")
        if wrong:
            logger.warning("%s: %s", wrong, LOST)


async def _evaluate(client: Redis, script: scripts.Script, words: tuple[Any, ...]) -> Any:
    try:
        return await client.evalsha(script.sha, *words)
    except NoScriptError:  # its first use, or the server was restarted: nothing of it has happened
        return await client.eval(script.text, *words)
