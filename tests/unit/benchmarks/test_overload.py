"""The clients of the overload benchmark tell what was good, late, shed and wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

from benchmarks.overload.load import Clients

GOOD = (201, b'{"status":"completed"}')
PENDING = (201, b'{"status":"running"}')
SHED = (503, b'{"code":"overloaded"}')
AWAY = (503, b'{"code":"store_unavailable"}')


@asynccontextmanager
async def answering(*answers: tuple[int, bytes]) -> AsyncIterator[str]:
    """A server that gives these answers, one after the other, again and again."""
    turn: Iterator[int] = iter(range(1_000_000))
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                status, body = answers[next(turn) % len(answers)]
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        if serving:
            await asyncio.wait(serving, timeout=5)


async def test_each_answer_counts_as_what_it_is() -> None:
    async with answering(GOOD, PENDING, SHED, AWAY) as url:
        clients = Clients(url, "asks", deadline_s=5)
        counts = await clients.at_rate(400, 0.1)
        clients.close()
    assert (counts.offered, len(counts.good), counts.late, len(counts.shed), len(counts.errors)) == (40, 10, 10, 10, 10)
    assert 0 < counts.goodput <= 100
    figures = counts.figures()
    assert (figures["offered_per_s"], figures["errors"]) == (400, 10)
    assert "store_unavailable" in str(figures["first_error"])


async def test_what_is_done_after_its_deadline_is_late() -> None:
    async with answering(GOOD) as url:
        clients = Clients(url, "asks", deadline_s=-1)
        counts = await clients.at_most(2, 0.05)
        clients.close()
    assert counts.good == []
    assert counts.late == counts.offered > 0
