"""The router in front of small real servers on loopback."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable

import pytest

from pointsman.router import RouterService, RouterSettings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Cut(bytes):
    """Written, then the connection breaks."""


class Upstream:
    """Answers each request as `react` says: bytes, or None to break the connection."""

    def __init__(self, react: Callable[[bytes], bytes | None]) -> None:
        self.react, self.seen, self.closed = react, [], asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lower = head.lower()
                if b"content-length: " in lower:
                    head += await reader.readexactly(int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]))
                if head.startswith(b"GET /health "):  # a probe of the router
                    writer.write(OK)
                    continue
                self.seen.append(head)
                answer = self.react(head)
                if answer is None:
                    break
                writer.write(answer)
                if isinstance(answer, Cut):
                    break
        self.closed.set()
        await shut(writer)


@contextlib.asynccontextmanager
async def upstream(react: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[Upstream, str]]:
    up = Upstream(react)
    server = await asyncio.start_server(up.handle, "127.0.0.1", 0)
    try:
        yield up, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if up.tasks:
            await asyncio.wait(up.tasks, timeout=5)
        assert all(task.done() for task in up.tasks), "the router left a connection open"


@contextlib.asynccontextmanager
async def router(*addresses: str, **more: object) -> AsyncIterator[RouterService]:
    service = RouterService(RouterSettings(coordinators=addresses, **{"stop_timeout_s": 0.1, **more}))
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def ask(service: RouterService, request: bytes, *, until: bytes | None = None) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await (reader.read() if until is None else reader.readuntil(until))
    finally:
        await shut(writer)


async def shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def post(path: str, body: bytes = b"{}", extra: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def header(request: bytes, name: bytes) -> bytes:
    return next(line.split(b": ", 1)[1] for line in request.split(b"\r\n") if line.lower().startswith(name + b":"))


async def test_a_new_run_is_the_same_run_after_a_break():
    broken = []

    def react(head: bytes) -> bytes | None:
        broken.append(head)
        return None if len(broken) == 1 else OK

    async with upstream(react) as (_, one), upstream(react) as (_, two), router(one, two) as service:
        answer = await ask(service, post("/v1/runs"))
    assert answer.startswith(b"HTTP/1.1 200")
    first, second = (header(request, b"pointsman-run-id") for request in broken)
    assert first == second
    assert len(first) == 32


async def test_a_refused_coordinator_is_passed_by():
    async with upstream(lambda _: OK) as (_, dead):
        pass
    async with upstream(lambda _: OK) as (up, alive), router(dead, alive) as service:
        for n in range(20):
            assert b" 200 " in await ask(service, post(f"/v1/runs/{n}/anything"))
    assert len(up.seen) == 20


async def test_what_is_for_one_coordinator_goes_to_no_other():
    """Polls of workers: each coordinator has calls of its own."""

    def to(address: str, path: str = "/v1/workers/w/poll") -> bytes:
        return post(path, extra=f"Pointsman-Coordinator: {address}\r\n")

    async with upstream(lambda _: OK) as (_, gone):
        pass
    async with upstream(lambda _: OK) as (one, a), upstream(lambda _: OK) as (two, b), router(a, b, gone) as service:
        for n in range(5):
            assert b" 200 " in await ask(service, to(a))
            assert b" 200 " in await ask(service, to(b, f"/v1/runs/{n}/attempts/finish"))
        assert (len(one.seen), len(two.seen)) == (5, 5)
        answer = await ask(service, to(gone))
        assert b" 503 " in answer
        assert b'"no_coordinator"' in answer
        answer = await ask(service, to("10.0.0.1:80"))  # the router has other words for it, or it is announced nowhere
        assert b" 421 " in answer
        assert b'"other_coordinator"' in answer
    assert (len(one.seen), len(two.seen)) == (5, 5)


async def test_what_is_for_one_coordinator_is_sent_to_it_again_when_a_kept_connection_broke_and_never_elsewhere():
    async with upstream(lambda _: None) as (one, a), upstream(lambda _: OK) as (two, b), router(a, b) as service:
        answer = await ask(service, post("/v1/workers/w/poll", extra=f"Pointsman-Coordinator: {a}\r\n"))
    assert b'"no_coordinator"' in answer
    assert len(one.seen) == 1
    assert two.seen == []


async def test_what_must_not_be_sent_twice_is_not():
    async with (
        upstream(lambda _: None) as (one, a),
        upstream(lambda _: None) as (two, b),
        router(a, b) as service,
    ):
        answer = await ask(service, post("/v1/runs/x/anything"))
    assert b'"upstream_broken"' in answer
    assert len(one.seen) + len(two.seen) == 1


async def test_nothing_is_retried_after_bytes_were_passed_on():
    def react(head: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nBROKEN"

    async with upstream(react) as (up, a), router(a) as service:
        answer = await ask(service, b"GET /v1/runs/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.endswith(b"2\r\nab\r\n")
    assert len(up.seen) == 1


async def test_a_draining_coordinator_sends_even_unsafe_requests_elsewhere():
    drain = b"HTTP/1.1 503 No\r\nPointsman-Retry-Elsewhere: 1\r\nContent-Length: 2\r\n\r\nno"
    seen = []

    def react(head: bytes) -> bytes:
        seen.append(head)
        return drain if len(seen) == 1 else OK

    async with upstream(react) as (_, a), upstream(react) as (_, b), router(a, b) as service:
        assert (await ask(service, post("/v1/runs/x/anything"))).endswith(b"ok")
    assert len(seen) == 2


SHED = b"HTTP/1.1 503 No\r\nPointsman-Retry-Elsewhere: once\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nfull"


async def test_a_shed_start_is_tried_at_one_other_and_its_id_is_the_same():
    seen = []

    def react(head: bytes) -> bytes:
        seen.append(head)
        return SHED if len(seen) == 1 else OK

    async with upstream(react) as (_, a), upstream(react) as (_, b), router(a, b) as service:
        assert (await ask(service, post("/v1/runs"))).endswith(b"ok")
        assert len({header(request, b"pointsman-run-id") for request in seen}) == 1
        assert b" 200 " in await ask(service, b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert len(seen) == 2


async def test_an_overload_does_not_send_each_start_to_every_coordinator():
    async with contextlib.AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream(lambda _: SHED)) for _ in range(4)]
        service = await stack.enter_async_context(router(*(address for _, address in ups), down_s=60))
        answer = await ask(service, post("/v1/runs"))
        assert answer.endswith(b"full")
        assert header(answer, b"retry-after") == b"3"
        assert b"elsewhere" not in answer.lower()
        assert sum(len(up.seen) for up, _ in ups) == 2
        for _ in range(5):
            assert (await ask(service, post("/v1/runs"))).endswith(b"full")
        assert sum(len(up.seen) for up, _ in ups) == 7
        text = (
            await ask(service, b"GET /router/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        ).decode()
        assert 'pointsman_router_retries_total{reason="shed"} 1' in text


async def test_a_shed_start_is_passed_on_where_there_is_no_other():
    async with upstream(lambda _: SHED) as (up, a), router(a) as service:
        assert (await ask(service, post("/v1/runs"))).endswith(b"full")
    assert len(up.seen) == 1


async def test_events_flow_at_once_and_a_client_that_leaves_closes_the_upstream():
    stream = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nid: 1\r\n"
    async with upstream(lambda _: stream) as (up, a), router(a) as service:
        answer = await ask(service, b"GET /v1/runs/x/stream HTTP/1.1\r\nHost: localhost\r\n\r\n", until=b"id: 1\r\n")
        assert answer.endswith(b"5\r\nid: 1\r\n")
        async with asyncio.timeout(5):
            await up.closed.wait()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"400",
        ),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, b"413"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost:", b"408"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx", b"408"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    ],
)
async def test_refused_before_any_coordinator_sees_it(request_: bytes, status: bytes):
    limits = {"body_bytes_max": 1000, "headers_timeout_s": 0.1, "body_timeout_s": 0.1, "sweep_every_s": 0.02}
    async with upstream(lambda _: OK) as (up, a), router(a, linger_s=0.1, **limits) as service:
        answer = await ask(service, request_)
    assert answer.split(b" ")[1] == status
    assert b"application/problem+json" in answer
    assert up.seen == []


async def test_announced_leaving_and_silent():
    now = [0.0]
    async with upstream(lambda _: OK) as (_, address):
        service = RouterService(RouterSettings(retry_for_s=0, stop_timeout_s=0.1), clock=lambda: now[0])
        await service.start()

        async def say(leaving: bool, incarnation: int) -> None:
            said = {
                "name": "a",
                "address": address,
                "incarnation": incarnation,
                "load": 0.5,
                "leaving": leaving,
            }
            assert b" 200 " in await ask(service, post("/router/announce", json.dumps(said).encode()))

        async def status(path: str) -> bytes:
            get = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            return (await ask(service, get.encode())).split(b" ")[1]

        assert await status("/ready") == b"503"
        await say(False, 1)
        assert (await status("/ready"), await status("/v1/runs")) == (b"200", b"200")
        await say(True, 1)
        assert (await status("/ready"), await status("/v1/runs")) == (b"503", b"503")
        await say(False, 2)
        assert await status("/v1/runs") == b"200"
        now[0] = 2.0
        assert await status("/v1/runs") == b"503"
        assert await status("/health") == b"200"
        await service.stop()
