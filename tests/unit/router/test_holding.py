"""What the router holds: a short response until it is complete, a request's body until it is not needed again."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable

import pytest

from pointsman.router import RouterService, RouterSettings
from tests.unit.router.test_router import OK, Cut, ask, post, router, shut, upstream

GET = b"GET /v1/runs/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD = OK[:-2]


class Scripted:
    """Answers of several coordinators, in the order in which requests come to any of them."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.seen: list[tuple[str, bytes]] = []

    def react_as(self, name: str) -> Callable[[bytes], bytes | None]:
        def react(request: bytes) -> bytes | None:
            self.seen.append((name, request))
            return self.answers.pop(0)

        return react


@contextlib.asynccontextmanager
async def router_and(react: Callable[[bytes], bytes | None], **more: object) -> AsyncIterator[RouterService]:
    async with upstream(react) as (_, address), router(address, **more) as service:
        yield service


async def announce(service: RouterService, name: str, address: str, **more: object) -> None:
    said = json.dumps({"name": name, "address": address, "incarnation": 1, **more}).encode()
    assert b" 200 " in await ask(service, post("/router/announce", said))


@pytest.mark.parametrize("broken", [HEAD[:20], HEAD, HEAD + b"o"])
@pytest.mark.parametrize("request_", [GET, post("/v1/runs", b'{"id":"r"}')])
async def test_a_death_in_the_middle_of_a_short_response_is_retried(broken: bytes, request_: bytes):
    script = Scripted(Cut(broken), OK)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        router(a, b) as service,
    ):
        answer = await ask(service, request_)
        metrics = await ask(service, GET.replace(b"/v1/runs/x", b"/router/metrics"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"\r\n\r\nok")
    (first, one), (second, two) = script.seen
    assert first != second
    assert one == two
    assert b'requests_total{status="2xx"} 1\n' in metrics


async def test_a_kept_connection_that_breaks_in_a_response_is_not_stale():
    script = Scripted(OK, Cut(HEAD), OK)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        router(a, b) as service,
    ):
        assert [(await ask(service, GET))[-2:] for _ in range(2)] == [b"ok", b"ok"]
    first, second, third = (name for name, _ in script.seen)
    assert first == second != third


async def test_in_the_middle_of_a_short_response_what_must_not_be_sent_twice_gets_an_error():
    async with upstream(lambda _: Cut(HEAD)) as (up, a), router(a) as service:
        answer = await ask(service, post("/v1/runs/x/anything"))
    assert answer.startswith(b"HTTP/1.1 502")
    assert b'"upstream_broken"' in answer
    assert len(up.seen) == 1


async def test_a_short_response_that_does_not_end_in_time():
    async with upstream(lambda _: HEAD + b"o") as (_, a), router(a, response_timeout_s=0.1, sweep_every_s=0.02) as s:
        answer = await ask(s, GET)
    assert answer.startswith(b"HTTP/1.1 504")
    assert b'"upstream_timeout"' in answer


async def test_the_middle_of_a_short_response_of_a_coordinator_that_fell_silent():
    script = Scripted(HEAD + b"o", OK)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        router(b, silent_s=0.2, sweep_every_s=0.02) as service,
    ):
        await announce(service, "n", a)
        members = service._router.membership
        mine = next(k for n in range(99) if members.pick(k := b"%d" % n, (), time.monotonic()).name == "n")
        assert (await ask(service, GET.replace(b"/x ", b"/%b " % mine))).endswith(b"\r\n\r\nok")
    assert [name for name, _ in script.seen] == ["a", "b"]


@pytest.mark.parametrize("limit", [1, 2])
async def test_longer_responses_flow_at_once(limit: int):
    async with upstream(lambda _: HEAD + b"o") as (up, a), router(a, held_response_bytes_max=limit) as service:
        asking = asyncio.create_task(ask(service, GET, until=b"\r\n\r\no"))
        done, _ = await asyncio.wait([asking], timeout=5 if limit == 1 else 0.2)
        assert bool(done) is (limit == 1)
        asking.cancel()
        await asyncio.wait([asking])
    assert len(up.seen) == 1


async def test_no_alarm_for_a_coordinator_that_left(caplog: pytest.LogCaptureFixture):
    now = [0.0]
    service = RouterService(RouterSettings(stop_timeout_s=0.1), clock=lambda: now[0])
    await service.start()
    await announce(service, "stays", "127.0.0.1:1")
    await announce(service, "left", "127.0.0.1:2")
    await announce(service, "left", "127.0.0.1:2", leaving=True)
    now[0] = 5.0
    with caplog.at_level(logging.WARNING, "pointsman.router"):
        service.sweep()
    await service.stop()
    assert "coordinator stays fell silent" in caplog.text
    assert "left" not in caplog.text


# The bytes of requests that are held, back to 0 whatever happened.

BODY = b'{"id":"%b"}' % (b"r" * 100)


def held(service: RouterService) -> int:
    return service._router.held.bytes


async def held_is(service: RouterService, wanted: int) -> None:
    async with asyncio.timeout(5):
        while held(service) != wanted:
            await asyncio.sleep(0.005)


async def test_a_completed_request_holds_its_body_until_the_response_is_passed_on():
    seen = []
    async with router_and(lambda _: seen.append(held(service)) or OK) as service:
        assert (await ask(service, post("/v1/runs", BODY))).endswith(b"ok")
        assert held(service) == 0
    assert seen == [len(BODY)]


async def test_a_retried_request_holds_its_body_once():
    seen, answers = [], [Cut(HEAD), Cut(HEAD + b"o"), None, OK]
    async with router_and(lambda _: seen.append(held(service)) or answers.pop(0)) as service:
        assert (await ask(service, post("/v1/runs", BODY))).endswith(b"ok")
        assert held(service) == 0
    assert seen == [len(BODY)] * 4


async def test_a_request_that_no_coordinator_answers_holds_nothing():
    async with router_and(lambda _: None, breaks_max=2) as service:
        assert b"upstream_broken" in await ask(service, post("/v1/runs", BODY))
        assert held(service) == 0


@pytest.mark.parametrize(
    "too_long",
    [
        post("/v1/runs", b"x" * 201),
        b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"50\r\n" + b"x" * 80 + b"\r\n") * 3,
    ],
)
async def test_a_body_that_is_too_long_is_held_no_longer(too_long: bytes):
    async with router_and(lambda _: OK, body_bytes_max=200, linger_s=0.1) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        for at in range(0, len(too_long), 40):
            writer.write(too_long[at : at + 40])
            await asyncio.sleep(0.001)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")
        assert held(service) == 0  # not only when the connection ends
        await shut(writer)


async def test_a_client_that_leaves_in_the_middle_of_its_body():
    async with router_and(lambda _: OK) as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(post("/v1/runs", BODY)[:-10])
        await held_is(service, len(BODY) - 10)
        await shut(writer)
        await held_is(service, 0)


@pytest.mark.parametrize("slow", [b"", HEAD, HEAD + b"o"])
async def test_a_client_that_leaves_while_it_waits(slow: bytes):
    seen = asyncio.Event()
    async with router_and(lambda _: seen.set() or slow) as service:
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(post("/v1/runs", BODY) + post("/v1/runs", BODY)[:-10])  # and the next is on its way
        await seen.wait()
        await asyncio.sleep(0.02)
        assert held(service) >= len(BODY)
        await shut(writer)
        await held_is(service, 0)


async def test_a_stream_that_has_begun_holds_no_body():
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nid: 1\r\n"
    async with router_and(lambda _: stream) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(post("/v1/runs", BODY))
        await reader.readuntil(b"id: 1")
        assert held(service) == 0
        await shut(writer)


@pytest.mark.parametrize("path", ["/health", "/router/announce", "/router/coordinators", "/router/nothing"])
async def test_a_body_for_the_router_itself(path: str):
    async with router_and(lambda _: OK) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        request = post(path, BODY).replace(b"Connection: close\r\n", b"")
        for _ in range(2):
            writer.write(request)
            await reader.readuntil(b"}")
            assert held(service) == 0
        await shut(writer)
