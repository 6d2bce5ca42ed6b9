"""A TCP proxy: the network between a client and a server, to delay, to swallow, to stop and to break.

Knows bytes only. What it holds back while it is stopped arrives afterwards, as TCP does it; what it swallows is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 65_536


class Proxy:
    """In front of `host:port`. `await start()`, then `dsn(...)` leads through it; `await stop()`.

    Attributes:
        is_deaf: what the server says is swallowed: the way in which a reply gets lost.
        swallowed: the server has said something that nobody heard.
        delay_s: every piece waits so long, in both directions.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.is_deaf = False
        self.swallowed = asyncio.Event()
        self.delay_s = 0.0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._open.set()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the proxy has not started")
        return int(self._server.sockets[0].getsockname()[1])

    def dsn(self, dsn: str) -> str:
        """The same database, through this proxy."""
        parts = urlsplit(dsn)
        return parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{self.port}").geturl()

    # -- the faults ---------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Break every connection at once, both ends of it."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def block(self) -> None:
        """Nothing arrives any more, and nobody is told: a partition."""
        self._open.clear()

    def unblock(self) -> None:
        self._open.set()

    def point_at(self, host: str, port: int) -> None:
        """What connects from now on reaches another server; who is connected is cut off."""
        self._target = (host, port)
        self.cut()

    # -- inside -------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._writers.append(writer)
        await self._open.wait()
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        if writer.is_closing():
            there_writer.transport.abort()
            return
        self._writers.append(there_writer)
        await asyncio.gather(
            self._pump(reader, there_writer, from_server=False), self._pump(there_reader, writer, from_server=True)
        )
        for each in (writer, there_writer):
            if each in self._writers:
                self._writers.remove(each)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._open.wait()
                if from_server and self.is_deaf:
                    self.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(dsn: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of a database, and the DSN that leads through it."""
    parts = urlsplit(dsn)
    if parts.hostname is None:
        raise ValueError("a DSN with a host is needed")
    proxy = Proxy(parts.hostname, parts.port or 5432)
    await proxy.start()
    try:
        yield proxy, proxy.dsn(dsn)
    finally:
        await proxy.stop()
