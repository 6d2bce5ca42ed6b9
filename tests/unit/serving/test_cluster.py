"""Requests to the cluster, answered byte by byte over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.serving import Cluster
from pointsman.serving.cluster import Coordinator
from tests.unit.transports.support import Handler, Seen, Server, response, says, serving

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
