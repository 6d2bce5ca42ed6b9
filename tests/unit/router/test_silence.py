"""How soon the router notices that a coordinator is gone, and that one is there: real sockets, the default settings."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pointsman.router import RouterService
from pointsman.testing.chaos.proxy import Proxy, proxied
from tests.unit.router.test_holding import announce
from tests.unit.router.test_router import OK, ask, post, router, upstream

NOTICED_S = 5.0
"""2 s on an idle machine. Who did not notice would wait for `response_timeout_s`, which is much longer."""
ANNOUNCE_S = 0.5
RUNS = 16


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


async def answered(service: RouterService) -> float:
    """How long the slowest of requests for many runs took; each coordinator is the first choice for some."""
    began = time.monotonic()
    for answer in await asyncio.gather(*(ask(service, get(f"/v1/runs/{n}")) for n in range(RUNS))):
        assert answer.startswith(b"HTTP/1.1 200"), answer
    return time.monotonic() - began


async def state_of(service: RouterService, name: str) -> str:
    listed = json.loads((await ask(service, get("/router/coordinators"))).split(b"\r\n\r\n")[1])["coordinators"]
    return str(next(row["state"] for row in listed if row["name"] == name))


async def until_silent(service: RouterService, name: str) -> None:
    async with asyncio.timeout(10):
        while await state_of(service, name) != "silent":
            await asyncio.sleep(0.02)


@asynccontextmanager
async def announcing(service: RouterService, **addresses: str) -> AsyncIterator[None]:
    """Coordinators that announce themselves as real ones do."""

    async def forever(name: str) -> None:
        while True:
            await announce(service, name, addresses[name])
            await asyncio.sleep(ANNOUNCE_S)

    for name, address in addresses.items():
        await announce(service, name, address)
    tasks = [asyncio.create_task(forever(name)) for name in addresses]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def behind_proxy(address: str) -> AsyncIterator[tuple[Proxy, str]]:
    async with proxied(f"http://nobody@{address}") as (proxy, url):
        yield proxy, url.rpartition("@")[2]


async def test_one_that_stops_announcing_and_answering_is_noticed_in_time():
    async with (
        upstream(lambda _: OK) as (there, a),
        upstream(lambda _: OK) as (_, b),
        behind_proxy(a) as (proxy, through),
        router() as service,
        announcing(service, b=b),
    ):
        await announce(service, "a", through)
        await answered(service)
        assert there.seen
        proxy.is_deaf = True
        began = time.monotonic()
        slowest_s = await answered(service)
        await until_silent(service, "a")
        noticed_s = time.monotonic() - began
        assert proxy.swallowed.is_set(), "some request was on its way to the silent one"
        assert slowest_s < NOTICED_S
        assert noticed_s < NOTICED_S
        assert min([await answered(service) for _ in range(3)]) < 1.0, "from now on nobody waits"


async def test_one_whose_answers_are_dropped_is_noticed_though_it_announces_itself():
    async with (
        upstream(lambda _: OK) as (_, a),
        upstream(lambda _: OK) as (_, b),
        behind_proxy(a) as (proxy, through),
        router() as service,
        announcing(service, a=through, b=b),
    ):
        await answered(service)
        proxy.is_deaf = True
        began = time.monotonic()
        assert await answered(service) < NOTICED_S
        assert proxy.swallowed.is_set()
        await until_silent(service, "a")
        assert time.monotonic() - began < NOTICED_S
        proxy.is_deaf = False
        async with asyncio.timeout(NOTICED_S):
            while await state_of(service, "a") != "live":
                await asyncio.sleep(0.02)


async def test_a_refused_connection_costs_nothing():
    async with upstream(lambda _: OK) as (_, dead):
        pass
    async with upstream(lambda _: OK) as (_, b), router() as service, announcing(service, dead=dead, b=b):
        assert await answered(service) < NOTICED_S
        assert await state_of(service, "dead") in ("down", "silent")


async def test_a_request_that_comes_before_any_coordinator_waits_for_one():
    async with upstream(lambda _: OK) as (_, a), router() as service:
        asking = asyncio.create_task(answered(service))
        done, _ = await asyncio.wait([asking], timeout=0.2)
        assert not done
        async with announcing(service, a=a):
            began = time.monotonic()
            await asking
            assert time.monotonic() - began < NOTICED_S


async def test_without_any_coordinator_the_answer_says_when_to_ask_again():
    async with router(retry_for_s=0.1) as service:
        answer = await ask(service, get("/v1/runs/x"))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b'"no_coordinator"' in answer
        assert (await ask(service, get("/ready"))).startswith(b"HTTP/1.1 503")
        assert (await ask(service, post("/router/announce", b"{}"))).startswith(b"HTTP/1.1 422")


ELSEWHERE = b"HTTP/1.1 503 Busy\r\nPointsman-Retry-Elsewhere: 1\r\nContent-Length: 0\r\n\r\n"


async def test_one_that_sent_requests_elsewhere_for_a_moment_is_there_again_though_nobody_asks():
    """While its database was away, say. Its probes say so; without them it would be listed as down until a request for
    one of its runs comes."""
    is_away = True

    def react(request: bytes) -> bytes:
        return ELSEWHERE if is_away and b"/health" not in request else OK

    async with (
        upstream(react) as (_, a),
        upstream(lambda _: OK) as (_, b),
        router() as service,
        announcing(service, a=a, b=b),
    ):
        await answered(service)
        assert await state_of(service, "a") == "down"
        is_away = False
        async with asyncio.timeout(NOTICED_S):
            while await state_of(service, "a") != "live":
                await asyncio.sleep(0.02)


async def test_an_answer_over_a_pooled_connection_shows_that_it_is_there_again():
    """Else it would be tried with two requests a second for ever: nobody opens a connection where there are some."""
    is_away = False

    def react(request: bytes) -> bytes:
        return ELSEWHERE if is_away and b"/health" not in request else OK

    async with upstream(react) as (_, a), router(a, probe_every_s=3600.0, backoff_s=0.02) as service:
        await answered(service)
        is_away = True
        asked = asyncio.create_task(ask(service, get("/v1/runs/1")))
        async with asyncio.timeout(10):
            while await state_of(service, a) != "down":
                await asyncio.sleep(0.02)
        is_away = False
        assert (await asked).startswith(b"HTTP/1.1 200")
        assert await state_of(service, a) == "live"
