"""An agent behind HTTP that lies: the answers of a service that is broken in every way that a caller can notice."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from types import TracebackType
from typing import Final, Self

import httpx

from pointsman.testing.chaos.app import LIAR

TIMEOUT_S: Final = 0.5
"""Of its card: a call that it lets hang costs so much."""
TTL_S: Final = 5.0
LIES: Final = {
    "bad schema": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"number": "one"}',
    "wrong content type": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\r\n<html>1</html>\n",
    "truncated JSON": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"number"',
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n1",
    "says 200 and hangs": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n",
}
CARD: Final = {
    "name": LIAR, "timeout": TIMEOUT_S, "fallback": ["step"],
    "retry": {"attempts": 2, "base": 0.1}, "breaker": {"calls_min": 1_000_000},
    "input_schema": {"type": "object"}, "output_schema": {"type": "integer"},
}  # fmt: skip
"""Without a health check: a liar says that it is well. Its breaker would spare us most of the lies."""


class Liar:
    """`async with`: it serves, and is registered at `url`. Afterwards it is gone, and its card stays.

    Attributes:
        told: how many lies.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lies = itertools.cycle(LIES.items())
        self._server: asyncio.Server | None = None
        self._hanging: set[asyncio.StreamWriter] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._new = asyncio.Condition()
        self.told = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._lie, "127.0.0.1", 0)
        await self._register()
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, verify=False) as client:
            await client.delete(f"/v1/agents/{LIAR}")
        for writer in list(self._hanging):
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def until_told(self, count: int) -> None:
        """Until so many lies are told."""
        async with self._new:
            await self._new.wait_for(lambda: self.told >= count)

    async def _register(self) -> None:
        """Raises httpx.HTTPError: the cluster does not take it."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        card = {**CARD, "url": f"http://127.0.0.1:{port}/"}
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, verify=False) as client:
            answer = await client.put(f"/v1/agents/{LIAR}", json={"card": card, "ttl_s": TTL_S})
            answer.raise_for_status()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(TTL_S / 3)
            with contextlib.suppress(httpx.HTTPError):
                await self._register()

    async def _lie(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hanging.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._request(reader):
                    name, lie = next(self._lies)
                    writer.write(lie)
                    await writer.drain()
                    async with self._new:
                        self.told += 1
                        self._new.notify_all()
                    if name == "half a body":
                        return
                    if name == "says 200 and hangs":
                        await reader.read()  # until the caller has enough
                        return
        finally:
            self._hanging.discard(writer)
            writer.close()

    @staticmethod
    async def _request(reader: asyncio.StreamReader) -> bool:
        """Read one; False at the end of the connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)
        return True
