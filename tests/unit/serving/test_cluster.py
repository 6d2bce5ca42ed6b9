"""Requests to the cluster, answered byte by byte over a real socket."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.router.service import RouterService
from pointsman.router.settings import RouterSettings
from pointsman.serving import Cluster
from pointsman.serving import cluster as module
from pointsman.serving.cluster import Coordinator
from tests.unit.transports.support import Handler, Seen, Server, answer, response, says, serving

BODY = b'"' + b"x" * 50_000 + b'"'


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def cluster(server: Server) -> AsyncIterator[Cluster]:
    cluster = Cluster(f"http://127.0.0.1:{server.port}", reply_bytes_max=100_000)
    yield cluster
    await cluster.close()


def in_pieces(answer: bytes, *ends: int) -> Handler:
    """The answer, cut there; the reader's side has had a turn for each piece before the next one is sent."""

    async def handle(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        begin = 0
        for end in (*ends, len(answer)):
            writer.write(answer[begin:end])
            await writer.drain()
            for _ in range(100):
                await asyncio.sleep(0)
            begin = end

    return handle


async def test_an_answer_is_whole_also_when_it_comes_in_pieces(server: Server, cluster: Cluster) -> None:
    server.handler = in_pieces(response(200, BODY), 100, 1_000, 40_000)
    until = time.monotonic() + 30
    assert await cluster.ask("GET", "/v1/coordinators", until=until) == BODY
    assert await cluster.ask_coordinator(Coordinator("127.0.0.1:1"), "GET", "/v1/coordinators") == BODY


async def test_an_answer_that_breaks_off_is_none(server: Server, cluster: Cluster) -> None:
    server.handler = says(response(200, BODY)[:-1])
    with pytest.raises(StoreUnavailable):
        await cluster.ask_coordinator(Coordinator("127.0.0.1:1"), "GET", "/v1/coordinators")


async def test_an_answer_beyond_the_limit_is_refused_and_not_asked_for_again(server: Server, cluster: Cluster) -> None:
    server.handler = in_pieces(response(200, BODY * 2), 60_000)
    with pytest.raises(StoreUnavailable, match="more than 100000 bytes"):
        await cluster.ask("GET", "/v1/coordinators", until=time.monotonic() + 30)
    with pytest.raises(StoreUnavailable, match="more than 100000 bytes"):
        await cluster.ask_coordinator(Coordinator("127.0.0.1:1"), "GET", "/v1/coordinators")
    assert len(server.seen) == 2


async def test_a_coordinator_that_the_router_has_other_words_for_is_asked_itself(server: Server) -> None:
    server.handler = answer(200, b"1")
    router = RouterService(RouterSettings(coordinators=(f"localhost:{server.port}",)))
    await router.start()
    cluster, coordinator = Cluster(f"http://127.0.0.1:{router.port}"), Coordinator(f"127.0.0.1:{server.port}")
    assert await cluster.ask_coordinator(coordinator, "DELETE", "/v1/workers/w") == b"1"
    assert coordinator.is_direct
    await cluster.close()
    await router.stop()


async def test_a_coordinator_to_which_there_is_no_way_is_given_up_soon(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIRECT_CONNECT_S", 0.05)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        backlog = [socket.socket() for _ in range(4)]
        for connection in backlog:  # beyond its backlog a connection is neither taken nor refused
            connection.setblocking(False)
            connection.connect_ex(full.getsockname())
        coordinator = Coordinator(f"127.0.0.1:{full.getsockname()[1]}")
        coordinator.is_direct = True
        async with asyncio.timeout(20):
            with pytest.raises(StoreUnavailable):
                await cluster.ask_coordinator(coordinator, "GET", "/v1/workers", timeout_s=60)
        for connection in backlog:
            connection.close()
