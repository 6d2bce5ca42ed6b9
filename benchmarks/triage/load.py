"""The clients of the cluster: a ticket arrives by the clock, whatever became of the others, and waits for its answer.

One client knows only the router and the HTTP API. It speaks HTTP/1.1 over a kept connection by hand: httpx costs 1 ms a
request, which on the two cores that everything shares would be the largest part of the measurement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from benchmarks.triage.data import Ticket

WAIT_S: Final = 5
"""How long one request waits for the result; it is sent again as long as the run is on its way."""
PATIENCE_S: Final = 60.0
"""After so long without an answer the client goes; what the log then says of its ticket counts."""
UNDER_WAY_MAX: Final = 3_000
"""Tickets with a connection at the same time. Those that arrive beyond wait, and that counts as latency."""
ENDED: Final = ("completed", "failed", "cancelled")


class BadResponse(Exception):
    """What came back is no HTTP response with a Content-Length."""


class RunBody(msgspec.Struct):
    """The part of the API's answer that a client needs."""

    status: str
    wake_at: str | None = None


class Sent(msgspec.Struct, frozen=True):
    """One ticket as its client saw it: seconds to the answer from its arrival, and from the start of the load. None: no
    answer came."""

    latency_s: float | None
    ended_s: float | None


_decoder = msgspec.json.Decoder(RunBody)


class Connection:
    """One kept connection to `host:port`; opened when it is needed, and again after an error."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the response.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection broke. BadResponse.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        try:
            writer.write(
                b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (path.encode(), self._host.encode(), len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status, length = parse_head(head)
            return status, await reader.readexactly(length)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def parse_head(head: bytes) -> tuple[int, int]:
    """Status and Content-Length of a response's head. Raises: BadResponse."""
    first, *lines = head.lower().split(b"\r\n")
    parts = first.split(b" ")
    lengths = [line.partition(b":")[2] for line in lines if line.startswith(b"content-length:")]
    if len(parts) < 2 or not parts[1].isdigit() or len(lengths) != 1:
        raise BadResponse(repr(head[:200]))
    return int(parts[1]), int(lengths[0])


class Load:
    """Sends every ticket once. `sent[number]` is what its client saw; `errors` what should not have been there."""

    def __init__(self, url: str, tickets: Sequence[Ticket], *, prefix: str, per_second: float) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)
        self._tickets = tickets
        self._prefix = prefix
        self._per_second = per_second
        self._idle: list[Connection] = []
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self.sent: dict[int, Sent] = {}
        self.errors: list[str] = []
        self.under_way_most = 0

    async def run(self, on_ended: Callable[[int], None]) -> None:
        """Until every client has gone. `on_ended` is called with the number of those that have."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        under_way: set[asyncio.Task[None]] = set()
        for number, ticket in enumerate(self._tickets):
            arrives = began + number / self._per_second
            if arrives > loop.time():
                await asyncio.sleep(arrives - loop.time())
            await self._room.acquire()
            task = asyncio.create_task(self._client(number, ticket, began, arrives, on_ended))
            under_way.add(task)
            self.under_way_most = max(self.under_way_most, len(under_way))
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for connection in self._idle:
            connection.close()

    async def _client(
        self, number: int, ticket: Ticket, began: float, arrived: float, on_ended: Callable[[int], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        connection = self._idle.pop() if self._idle else Connection(*self._address)
        body = msgspec.json.encode({
            "workflow": "support", "id": f"{self._prefix}-{number}",
            "input": {"row": ticket.row, "text": ticket.text},
        })  # fmt: skip
        is_answered = False
        try:
            while not (over := await self._ask(connection, body)) and loop.time() < arrived + PATIENCE_S:
                pass
            is_answered = over == "completed"
        finally:
            self._idle.append(connection)
            self._room.release()
            now = loop.time()
            self.sent[number] = Sent(now - arrived, now - began) if is_answered else Sent(None, None)
            on_ended(len(self.sent))

    async def _ask(self, connection: Connection, body: bytes) -> str:
        """Start the run, or find it started, and wait for it: its status if nothing more is to come by itself."""
        try:
            status, answer = await connection.post(f"/v1/runs?wait={WAIT_S}", body)
        except (OSError, asyncio.IncompleteReadError, BadResponse) as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.05)
            return ""
        if status not in (200, 201):
            self.errors.append(f"{status}: {answer[:200].decode(errors='replace')}")
            await asyncio.sleep(0.05)
            return ""
        run = _decoder.decode(answer)
        is_with_person = run.status == "parked" and run.wake_at is None
        return run.status if run.status in ENDED or is_with_person else ""
