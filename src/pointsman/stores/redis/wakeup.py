"""Wake-up over publish and subscribe: see `ports/wakeup.py` for what it promises. Hints are sent in groups, soon."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec
from redis.asyncio import Redis

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.inprocess.wakeup import Inbound
from pointsman.stores.redis.connections import guarded
from pointsman.stores.redis.session import Session

PENDING_MAX: Final = 10_000
RETRY_S: Final = 0.2
HEALTH_S: Final = 10
"""Seconds after which a silent connection is checked."""

logger = logging.getLogger("pointsman.store")
_decoder = msgspec.msgpack.Decoder(tuple[str, list[str]])


class RedisWakeup:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._own = secrets.token_hex(8)
        self._inbound = Inbound()
        self._pending: dict[str, None] = {}
        self._has_pending = asyncio.Event()
        self._is_listening = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopped = False

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._listen())]
        try:
            await asyncio.wait_for(self._is_listening.wait(), self._session.settings.timeout_s)
        except TimeoutError as error:
            raise StoreUnavailable("Redis let nobody subscribe to the channel of hints") from error

    async def stop(self) -> None:
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    def hint(self, runs: Sequence[str]) -> None:
        for run in runs:
            if len(self._pending) < PENDING_MAX:
                self._pending[run] = None
        if self._pending:
            self._has_pending.set()

    async def next_hints(self) -> list[str]:
        return await self._inbound.take()

    @property
    def _channel(self) -> str:
        return f"{self._session.prefix}hints"

    async def _send(self) -> None:
        while not self._is_stopped:
            await self._has_pending.wait()
            self._has_pending.clear()
            runs = list(self._pending)
            self._pending.clear()
            try:
                await self._session.command("PUBLISH", self._channel, msgspec.msgpack.encode((self._own, runs)))
            except (StoreUnavailable, UnicodeError) as error:
                logger.info("%d hints were not sent: %s", len(runs), error)

    async def _listen(self) -> None:
        while not self._is_stopped:
            client = Redis.from_url(self._session.settings.url, socket_keepalive=True, health_check_interval=HEALTH_S)
            try:
                async with client.pubsub() as channel:
                    await guarded(channel.subscribe(self._channel))
                    while not self._is_stopped:
                        self._heard(await guarded(channel.get_message(timeout=HEALTH_S)))
            except StoreUnavailable as error:
                logger.info("hints are not heard for now: %s", error)
                await asyncio.sleep(RETRY_S)
            finally:
                await client.aclose()

    def _heard(self, message: dict[str, object] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            self._is_listening.set()
        elif message["type"] == "message" and isinstance(message["data"], bytes):
            sender, runs = _decoder.decode(message["data"])
            if sender != self._own:
                self._inbound.put(runs)
