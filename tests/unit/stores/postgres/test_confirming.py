"""A death is sure at once when the dead refuse connections, and only after a while when they do not."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from pointsman.stores.postgres import PostgresSettings
from pointsman.stores.postgres.confirming import until_surely_dead

PATIENCE_S = 15.0
LONG = PostgresSettings(death_confirm_ms=30_000, answer_confirm_ms=30_000)
SHORT = PostgresSettings(death_confirm_ms=100, answer_confirm_ms=300)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Bound, so that nobody else gets it, and nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[tuple[asyncio.Server, int]]:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server, server.sockets[0].getsockname()[1]


async def test_a_refused_connection_is_the_second_witness() -> None:
    with closed_port() as port:
        async with asyncio.timeout(PATIENCE_S):
            await until_surely_dead(f"127.0.0.1:{port}", LONG)


async def test_who_stops_listening_meanwhile_is_dead_at_once() -> None:
    async with listening() as (server, port):
        waiting = asyncio.create_task(until_surely_dead(f"127.0.0.1:{port}", LONG))
        await asyncio.sleep(0)
        server.close()
        async with asyncio.timeout(PATIENCE_S):
            await waiting


@pytest.mark.parametrize("address", ["", "http://c0", "127.0.0.1:", "127.0.0.1:99999999", "no.such.host.invalid:80"])
async def test_an_address_that_says_nothing_is_no_witness(address: str) -> None:
    assert await seconds(address) >= 0.09


async def test_who_answers_is_given_more_time() -> None:
    async with listening() as (_, port):
        assert await seconds(f"127.0.0.1:{port}") >= 0.28


async def seconds(address: str) -> float:
    began = time.monotonic()
    await until_surely_dead(address, SHORT)
    return time.monotonic() - began
