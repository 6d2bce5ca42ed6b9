"""A server that does exactly what a test says, a byte at a time, and an agent that is reached there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import Agent
from pointsman.agents.card import Card
from pointsman.agents.context import Context
from pointsman.agents.signature import Signature
from pointsman.kernel.events import Emission
from pointsman.kernel.policy.amounts import Amount


class Seen:
    """One request as it came."""

    def __init__(self, head: bytes, body: bytes, connection: int) -> None:
        self.line, *lines = head.decode("latin-1").split("\r\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name}
        self.body = body
        self.connection = connection


Handler = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Hands every request to `handler`; remembers them all."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.handler: Handler = answer(200, b"null")
        self.accepted = asyncio.Event()
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/agent"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                seen = Seen(head.removesuffix(b"\r\n\r\n"), b"", number)
                seen.body = await reader.readexactly(int(seen.headers.get("content-length", 0)))
                self.seen.append(seen)
                self.accepted.set()
                await self.handler(seen, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(handler: Handler | None = None) -> AsyncIterator[Server]:
    server = Server()
    if handler is not None:
        server.handler = handler
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(server.serve(reader, writer)))

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**22)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(listening.wait_closed(), 5)


def response(status: int, body: bytes = b"", *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines)
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


def answer(status: int, body: bytes = b"", *lines: str) -> Handler:
    async def handle(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, body, *lines))

    return handle


def says(*parts: bytes, end: bool = True) -> Handler:
    """Writes just these bytes, and closes the connection or falls silent."""

    async def handle(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if end:
            writer.close()
            raise ConnectionError
        await asyncio.Event().wait()

    return handle


HERE = AgentAddresses(allow=("127.0.0.1", "agent.example"))
"""Agents may be on this machine, or under this name wherever that is public, or here."""


class Runtime:
    """What an attempt says of itself, remembered."""

    def __init__(self) -> None:
        self.spent: list[Amount] = []
        self.emitted: tuple[Emission, ...] = ()
        self.beats = 0
        self.effects: dict[str, bytes] = {}

    def heartbeat(self) -> None:
        self.beats += 1

    def spend(self, amount: Amount) -> None:
        self.spent.append(amount)

    def emit(self, emission: Emission) -> None:
        self.emitted += (emission,)

    async def find_effect(self, name: str) -> bytes | None:
        return self.effects.get(name)

    async def record_effect(self, name: str, value: bytes) -> bytes:
        return self.effects.setdefault(name, value)


def context(*, seconds: float = 10.0, runtime: Runtime | None = None, **fields: Any) -> Context:
    said: dict[str, Any] = {
        "run": "r1", "call": "billing#1", "attempt": 2, "idempotency_key": "r1/1/billing#1", "epoch": 3,
        "tenant": "acme", **fields,
    }  # fmt: skip
    return Context(deadline=time.monotonic() + seconds, runtime=runtime, **said)


def remote(url: str, function: Callable[..., Any] | None = None, **fields: Any) -> Agent:
    def total(n: int) -> dict[str, int]:
        """The schema alone is wanted: what answers is behind the URL."""
        raise AssertionError("an agent behind a URL was called in process")

    signature = Signature(function or total, given=Context, bytes_max=1_000_000)
    return Agent(Card(name="billing", url=url, **fields), signature)
