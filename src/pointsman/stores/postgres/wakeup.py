"""Wake-up by LISTEN and NOTIFY: see `ports/wakeup.py`. The same listener hears who joins and who was ended.

A NOTIFY takes a lock that all commits of the database share, so it is never part of an append, and one carries many
hints. A listener whose connection is silently dead receives nothing and gets no error, so it must receive its own
message every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.postgres.connection import Link
from pointsman.stores.postgres.server import Connection, Server

MESSAGE_BYTES_MAX = 7_900
"""PostgreSQL refuses messages of 8,000 bytes."""
PENDING_MAX = 10_000
"""Hints beyond it are dropped: a coordinator with so much to do finds the runs by its own polls."""
RETRY_S = 0.2
FLUSH_S = 0.5

logger = logging.getLogger("pointsman.wakeup")


class Message(msgspec.Struct, array_like=True):
    sender: str
    runs: list[str]
    echo: str = ""


class PostgresWakeup:
    """A service: `start` once, `stop` any number of times.

    Args:
        told: by channel on which `liveness.sql` announces incarnations: the callback that gets the number of each. The
            message is that number, a space, and its schema.
    """

    def __init__(self, server: Server, told: Mapping[str, Callable[[int], None]]) -> None:
        self._server = server
        self._told = told
        self._schema = ""
        self._me = secrets.token_hex(4)
        self._channel = ""
        self._pending: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()
        self._heard: asyncio.Queue[list[str]] = asyncio.Queue(maxsize=1_000)
        self._echo: tuple[str, asyncio.Event] = ("", asyncio.Event())
        self._notifier = Link(server, codecs=False)
        self._listener = Link(server, prepare=self._listen, codecs=False)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, schema: str) -> None:
        self._schema = schema
        self._channel = f"pointsman_{zlib.crc32(schema.encode()):08x}"
        self._tasks = [
            asyncio.create_task(self._keep(duty), name=name)
            for name, duty in (("notifier", self._notify), ("listener", self._check_listener))
        ]

    async def listening(self) -> None:
        """Connect the listener. Raises StoreUnavailable."""
        await self._listener.call(lambda connection: connection.fetchval("SELECT 1"))

    async def flush(self) -> None:
        """Send all pending hints: a coordinator that leaves hands its runs over with its last ones."""
        if self._tasks:
            with contextlib.suppress(StoreUnavailable, TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._send_pending()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._notifier.close()
        self._listener.abort()

    def hint(self, runs: Sequence[str]) -> None:
        if self._tasks and len(self._pending) < PENDING_MAX:
            self._pending.update(dict.fromkeys(runs))
            self._wake.set()

    async def next_hints(self) -> list[str]:
        return await self._heard.get()

    # -- inside ------------------------------------------------------------------------------------------------

    async def _keep(self, duty: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await duty()
            except StoreUnavailable as error:
                logger.debug("hints are lost: %s", error)
                await asyncio.sleep(RETRY_S)
            except Exception:
                logger.exception("wake-up failed; it goes on")
                await asyncio.sleep(RETRY_S)

    async def _notify(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        await self._send_pending()
        await asyncio.sleep(self._server.settings.hint_interval_ms / 1000)

    async def _send_pending(self) -> None:
        async with self._sending:
            pending, self._pending = list(self._pending), {}
            for message in _messages(self._me, pending):
                await self._send(message)

    async def _send(self, message: str) -> None:
        await self._notifier.call(
            lambda connection: connection.execute("SELECT pg_notify($1, $2)", self._channel, message)
        )

    async def _check_listener(self) -> None:
        """Detect any failure of the listener: it must receive its own echo in time."""
        interval = self._server.settings.listener_check_s
        await self.listening()
        echo = secrets.token_hex(4)
        self._echo = (echo, asyncio.Event())
        await self._send(msgspec.json.encode(Message(self._me, [], echo)).decode())
        try:
            async with asyncio.timeout(interval):
                await self._echo[1].wait()
        except TimeoutError:
            logger.warning("the listener does not hear: connecting anew")
            self._listener.abort()
            return
        await asyncio.sleep(interval)

    async def _listen(self, connection: Connection) -> None:
        await connection.add_listener(self._channel, self._on_message)
        for channel in self._told:
            await connection.add_listener(channel, self._on_incarnation)

    def _on_incarnation(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        number, _, schema = str(payload).partition(" ")
        if schema == self._schema and number.isdecimal():
            self._told[channel](int(number))

    def _on_message(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        try:
            message = msgspec.json.decode(str(payload), type=Message)
        except msgspec.MsgspecError:
            return
        if message.echo and message.echo == self._echo[0]:
            self._echo[1].set()
        elif message.sender != self._me and message.runs:
            with contextlib.suppress(asyncio.QueueFull):
                self._heard.put_nowait(message.runs)


def _messages(sender: str, runs: Sequence[str]) -> list[str]:
    """Pack as many hints into each message as fit; a hint that fits into none is dropped."""
    messages: list[str] = []
    part: list[str] = []
    size = room = MESSAGE_BYTES_MAX - 64
    for run in runs:
        try:
            bytes_of_run = len(msgspec.json.encode(run)) + 1
        except UnicodeEncodeError:
            continue
        if bytes_of_run > room:
            continue
        if bytes_of_run > size:
            messages.append(msgspec.json.encode(Message(sender, part)).decode())
            part, size = [], room
        part.append(run)
        size -= bytes_of_run
    if part:
        messages.append(msgspec.json.encode(Message(sender, part)).decode())
    return messages
