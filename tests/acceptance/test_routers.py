"""The router as a process: what it notices and how soon, that it can be replaced, and how much memory it takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.test_rolling import APP, EACH, lost
from tests.support.fleet import Fleet, Member, fleet
from tests.support.http import Connection
from tests.support.load import load

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

NOTICED_S = 5.0
LEARNED_S = 5.0
"""An idle machine takes a second for either."""
MEGABYTE = 1_000_000


async def state_of(router: Member, name: str) -> str:
    connection = Connection(router.port)
    rows = (await connection.request("GET", "/router/coordinators")).json()["coordinators"]
    connection.close()
    return next((str(row["state"]) for row in rows if row["name"] == name), "unknown")


async def test_two_routers_know_nothing_of_each_other_and_each_is_replaceable(
    fresh_database: str, tmp_path: Path
) -> None:
    async with fleet(fresh_database, APP, tmp_path) as members:
        one, two = await members.router("one"), await members.router("two")
        await asyncio.gather(*(members.coordinator(name, routers=[one, two]) for name in "ab"))
        for router in (one, two):
            await members.known(router, {"a", "b"})
        async with load(two.port, each=EACH) as clients:
            await clients.answers(5 * EACH)
            assert (await one.leave(signal.SIGKILL))[0] == -signal.SIGKILL
            await clients.answers(20 * EACH)
            again = await members.router("one", port=one.port)
            ready = time.monotonic()
            connection = Connection(again.port)
            first = await connection.request("GET", "/v1/runs?limit=1")
            assert first.status == 200, "it waits until it knows somebody"
            first_s = time.monotonic() - ready
            connection.close()
            await members.known(again, {"a", "b"})
            learned_s = time.monotonic() - ready
            await clients.answers(5 * EACH)
        assert await lost(members, clients) == []
    print(f"a restarted router answers after {first_s:.3f} s, and knows all after {learned_s:.3f} s")
    assert clients.errors == []
    assert clients.streams_cut == 0
    assert first_s < LEARNED_S
    assert learned_s < LEARNED_S


async def test_a_stopped_coordinator_is_noticed_in_time(fresh_database: str, tmp_path: Path) -> None:
    async with fleet(fresh_database, APP, tmp_path) as members:
        router = await members.router()
        await asyncio.gather(*(members.coordinator(name, routers=[router]) for name in "ab"))
        await members.known(router, {"a", "b"})
        stopped = members.members["a"].process
        async with load(router.port, each=EACH) as clients:
            await clients.answers(5 * EACH)
            stopped.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            async with asyncio.timeout(10):
                while await state_of(router, "a") == "live":
                    await asyncio.sleep(0.01)
            noticed_s = time.monotonic() - began
            await clients.answers(20 * EACH)
            stopped.send_signal(signal.SIGCONT)
            await members.known(router, {"a", "b"})
        assert await lost(members, clients) == []
    print(f"noticed after {noticed_s:.3f} s; slowest request {clients.slowest_s:.3f} s")
    assert clients.errors == []
    assert clients.streams_cut == 0
    assert noticed_s < NOTICED_S


# -- memory ---------------------------------------------------------------------------------------------------------


def rss(member: Member) -> int:
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))


@asynccontextmanager
async def serving(handle: asyncio.streams._ClientConnectedCallback) -> AsyncIterator[str]:  # type: ignore[name-defined]
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Routers without a cluster: what is behind them is the test's."""
    members = Fleet("", APP, tmp_path, 0)
    try:
        yield members
    finally:
        await members.end()


CHUNK = b"%x\r\n%b\r\n" % (MEGABYTE, b"x" * MEGABYTE)
STREAMED = 64
READERS = 4


async def test_a_client_that_reads_slowly_does_not_fill_the_router(alone: Fleet) -> None:
    """A fast coordinator has 256 MB for clients that read nothing for a while: it is held back, not the bytes."""
    sent = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                if request.startswith(b"GET /health"):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    continue
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _ in range(STREAMED):
                    writer.write(CHUNK)
                    await writer.drain()
                    sent += 1
                writer.write(b"0\r\n\r\n")
        writer.close()

    async with serving(handle) as address:
        router = await alone.start("router", "router", "--port", "0", "--coordinator", address)
        before, most = rss(router), 0
        connections = [Connection(router.port) for _ in range(READERS)]
        streams = [(await connection.stream("/v1/runs/x/stream"))[1] for connection in connections]
        still, seen = 0, -1
        while still < 20:  # until nothing moves any more
            still, seen = (still + 1, seen) if sent == seen else (0, sent)
            most = max(most, rss(router))
            await asyncio.sleep(0.02)
        held_back = sent
        sizes = [sum([len(chunk) async for chunk in stream]) for stream in streams]
        most = max(most, rss(router))
        for connection in connections:
            connection.close()
    print(f"{held_back} of {STREAMED * READERS} MB were sent before anybody read; {(most - before) / MEGABYTE:.1f} MB")
    assert sizes == [STREAMED * MEGABYTE] * READERS
    assert held_back < STREAMED * READERS / 2
    assert most - before < 24 * MEGABYTE


BODY = json.dumps({"workflow": "steps", "input": "x" * MEGABYTE})
CLIENTS = 100
BODIES_MAX = 20 * MEGABYTE


async def test_a_coordinator_that_answers_slowly_does_not_fill_the_router(alone: Fleet) -> None:
    """It takes 100 MB of requests off nobody: the router holds as many as it may, and tells the others to come back."""
    go = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            if not request.startswith(b"GET /health"):
                await go.wait()
                await reader.readexactly(len(json.dumps(json.loads(BODY))))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
        writer.close()

    async def client(number: int) -> int:
        connection = Connection(router.port)
        body = json.loads(BODY)
        answer = await connection.request("POST", "/v1/runs", body, {"Idempotency-Key": str(number)})
        connection.close()
        return answer.status

    async with serving(handle) as address:
        router = await alone.start(
            "router", "router", "--port", "0", "--coordinator", address, "--set", f"bodies_bytes_max={BODIES_MAX}"
        )
        before, most = rss(router), 0
        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        while sum(task.done() for task in clients) < CLIENTS - BODIES_MAX // MEGABYTE:
            most = max(most, rss(router))
            await asyncio.sleep(0.02)
        go.set()
        statuses = await asyncio.gather(*clients)
        most = max(most, rss(router))
    print(f"{statuses.count(200)} of {CLIENTS} MB of bodies were held; {(most - before) / MEGABYTE:.1f} MB of memory")
    assert set(statuses) == {200, 503}
    assert statuses.count(200) <= BODIES_MAX // MEGABYTE
    assert most - before < 3 * BODIES_MAX
