"""A client that hides nothing: one connection, no retry, whatever goes wrong is raised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any


class Broken(Exception):
    """The connection broke, or what came over it is no response."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Kept between requests, as the server says; opened when it is needed."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.port = port
        self._host = host
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Raises: Broken, OSError."""
        answer, reader = await self._begin(method, path, body, headers)
        try:
            if "content-length" in answer.headers:
                answer.body = await reader.readexactly(int(answer.headers["content-length"]))
            else:
                answer.body = b"".join([chunk async for chunk in _chunks(reader)])
        except asyncio.IncompleteReadError as error:
            self.close()
            raise Broken(f"{method} {path}: cut in the middle of the body") from error
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def stream(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[Answer, AsyncIterator[bytes]]:
        """A chunked response, chunk by chunk; the connection is the stream's. Raises as `request`."""
        answer, reader = await self._begin("GET", path, None, headers)
        return answer, _chunks(reader)

    async def _begin(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> tuple[Answer, asyncio.StreamReader]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self.port)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self._host}:{self.port}",
            *(f"{k}: {v}" for k, v in (headers or {}).items()),
        ]
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except (asyncio.IncompleteReadError, OSError) as error:
            self.close()
            raise Broken(f"{method} {path}: {error!r}") from error
        except asyncio.CancelledError:
            self.close()
            raise
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return Answer(int(head[0].split(" ")[1]), named), reader

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Raises Broken: without its last chunk the response was cut."""
    try:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    except (asyncio.IncompleteReadError, OSError, ValueError) as error:
        raise Broken(f"a chunked response was cut: {error!r}") from error
