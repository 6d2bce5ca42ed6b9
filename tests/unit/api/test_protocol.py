"""Real sockets: clients that are slow, silent, too many or not speaking HTTP, and a server that leaves."""

import asyncio
import signal

import msgspec
import pytest

from pointsman.kernel.errors import UnknownRun
from tests.unit.api.memory_runs import MemoryRuns, connected, served

GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY = b'{"workflow":"echo","input":1}'
SMALL = {"headers_timeout_s": 0.2, "body_timeout_s": 0.2, "idle_timeout_s": 0.2}
LONG = 60.0


def problem(response: bytes) -> dict:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    return msgspec.json.decode(body)


async def drip(wire, data: bytes) -> None:
    """A byte every 20 ms until the server has had enough."""
    try:
        for byte in data:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0.02)
    except OSError:
        pass


async def dripped(wire, data: bytes) -> bytes:
    sending = asyncio.create_task(drip(wire, data))
    try:
        return await wire.rest()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_requests_follow_each_other_on_one_connection():
    async with served(MemoryRuns()) as server, connected(server.port) as wire:
        for run in (b"a", b"b"):
            body = b'{"workflow":"echo","id":"%s","input":1}' % run
            await wire.send(POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            status, answer = await wire.response()
            assert (status, msgspec.json.decode(answer)["id"]) == (201, run.decode())


async def test_pipelined_requests_are_answered_in_order():
    async with served(MemoryRuns()) as server, connected(server.port) as wire:
        await wire.send(GET + b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" + GET)
        bodies = [(await wire.response())[1] for _ in range(3)]
        assert bodies == [b'{"status":"alive"}', b"pointsman_up 1\n", b'{"status":"alive"}']


async def test_slow_headers_are_answered_408_and_closed():
    limits = {**SMALL, "idle_timeout_s": LONG, "body_timeout_s": LONG}
    async with served(MemoryRuns(), **limits) as server, connected(server.port) as wire:
        response = await dripped(wire, b"GET /health HTTP/1.1\r\nX-Slow: " + b"x" * 1000)
        assert problem(response)["code"] == "request_timeout"
        assert response.startswith(b"HTTP/1.1 408 ")
        assert wire.age_s() >= 0.2


async def test_a_slow_body_is_answered_408_and_closed():
    limits = {**SMALL, "idle_timeout_s": LONG, "headers_timeout_s": LONG}
    async with served(MemoryRuns(), **limits) as server:
        for framing in (b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"):
            async with connected(server.port) as wire:
                await wire.send(POST + framing)
                assert problem(await dripped(wire, b"x" * 1000))["code"] == "request_timeout"


async def test_a_silent_connection_is_closed_before_and_after_a_request():
    limits = {**SMALL, "headers_timeout_s": LONG, "body_timeout_s": LONG}
    async with served(MemoryRuns(), **limits) as server, connected(server.port) as wire:
        assert await wire.rest() == b""
        assert wire.age_s() >= 0.2
        async with connected(server.port) as used:
            await used.send(GET)
            assert (await used.response())[0] == 200
            assert await used.rest() == b""


async def test_one_half_request_after_a_whole_one_is_closed_too():
    limits = {**SMALL, "idle_timeout_s": LONG}
    async with served(MemoryRuns(), **limits) as server, connected(server.port) as wire:
        await wire.send(GET + b"GET /hea")
        assert (await wire.response())[0] == 200
        assert problem(await wire.rest())["code"] == "request_timeout"


async def test_deadlines_do_not_touch_a_request_that_is_being_handled():
    runs = MemoryRuns()
    async with served(runs, **SMALL) as server, connected(server.port) as wire:
        body = b'{"workflow":"patient","id":"a","input":1}'
        post = POST.replace(b"/v1/runs", b"/v1/runs?wait=0.8")
        await wire.send(post + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        status, answer = await wire.response()
        assert (status, msgspec.json.decode(answer)["status"]) == (201, "running")
        assert wire.age_s() >= 0.8


async def test_an_early_answer_does_not_keep_a_dripping_body_alive():
    limits = {**SMALL, "idle_timeout_s": LONG, "headers_timeout_s": LONG}
    async with served(MemoryRuns(), token="t", **limits) as server, connected(server.port) as wire:
        await wire.send(POST + b"Content-Length: 1000\r\n\r\n")
        assert (await wire.response())[0] == 401
        await dripped(wire, b"x" * 1000)
        assert wire.age_s() < 5


async def test_a_client_that_reads_nothing_is_cut():
    runs = MemoryRuns()
    async with served(runs, write_timeout_s=0.3) as server, connected(server.port) as wire:
        body = b'{"workflow":"echo","id":"a","input":"' + b"x" * 900_000 + b'"}'
        await wire.send(POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await wire.response()
        wire.writer.transport.pause_reading()
        await wire.send(b"GET /v1/runs/a HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)
        connections = server.connections
        async with asyncio.timeout(10):
            await connections.empty.wait()


async def test_too_many_connections_get_503_and_room_is_made_again():
    async with served(MemoryRuns(), connections_max=1) as server:
        async with connected(server.port) as first:
            await first.send(GET)
            assert (await first.response())[0] == 200
            async with connected(server.port) as second:
                response = await second.rest()
                assert problem(response)["code"] == "too_many_connections"
                assert b"retry-after: 1" in response
            await first.send(GET)
            assert (await first.response())[0] == 200
        async with asyncio.timeout(5):
            await server.connections.empty.wait()
        async with connected(server.port) as third:
            await third.send(GET)
            assert (await third.response())[0] == 200


@pytest.mark.parametrize("ended", [True, False])
async def test_headers_over_the_limit_are_431(ended):
    async with served(MemoryRuns(), header_bytes_max=2000) as server, connected(server.port) as wire:
        tail = b"\r\n\r\n" if ended else b""
        await wire.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Big: " + b"x" * 2000 + tail)
        assert problem(await wire.rest())["code"] == "headers_too_large"


async def test_many_small_headers_and_a_long_path_are_431_too():
    async with served(MemoryRuns(), header_bytes_max=2000) as server:
        for request in (
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 400 + b"\r\n",
            b"GET /" + b"x" * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            async with connected(server.port) as wire:
                await wire.send(request)
                assert problem(await wire.rest())["code"] == "headers_too_large"


async def test_a_body_over_the_limit_is_413_chunked_or_not():
    async with served(MemoryRuns(), body_bytes_max=1000) as server:
        for framing in (b"Content-Length: 5000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1388\r\n"):
            async with connected(server.port) as wire:
                await wire.send(POST + framing + b"x" * 4000)
                status, answer = await wire.response()
                assert (status, msgspec.json.decode(answer)["code"]) == (413, "body_too_large")
                # The rest is read and dropped up to a point, so that the answer is not lost to a reset.
                await wire.send(b"x" * 20_000)
                await wire.rest()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nBad Header: x\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_400_problem(request_bytes):
    async with served(MemoryRuns()) as server, connected(server.port) as wire:
        await wire.send(request_bytes)
        response = await wire.rest()
        assert response.startswith(b"HTTP/1.1 400 ")
        assert problem(response)["code"] == "bad_request"


@pytest.mark.parametrize("host", [b"", b"evil.test", b"/health", b"x:99999", b"[::", b"a b", b"\xff"])
async def test_the_host_header_changes_nothing(host):
    async with served(MemoryRuns(), token="t") as server, connected(server.port) as wire:
        await wire.send(b"GET /v1/runs HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        status, answer = await wire.response()
        assert (status, msgspec.json.decode(answer)["code"]) == (401, "unauthorized")


async def test_an_absolute_target_is_judged_by_its_path():
    async with served(MemoryRuns(), token="t") as server, connected(server.port) as wire:
        await wire.send(b"GET http://127.0.0.1/v1/runs?x=/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.response())[0] == 401


async def test_an_upgrade_is_not_taken():
    async with served(MemoryRuns()) as server, connected(server.port) as wire:
        await wire.send(
            b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        assert (await wire.response())[0] == 200


async def test_a_body_waits_to_be_asked_for_when_the_client_says_so():
    async with served(MemoryRuns()) as server, connected(server.port) as wire:
        await wire.send(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert await wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.send(BODY)
        assert (await wire.response())[0] == 201


async def test_a_wait_ends_when_its_client_goes():
    runs = MemoryRuns()
    ended = asyncio.Event()
    original = runs.wait

    async def wait(run, *, timeout_s):
        try:
            return await original(run, timeout_s=timeout_s)
        finally:
            ended.set()

    runs.wait = wait
    async with served(runs) as server, connected(server.port) as wire:
        body = b'{"workflow":"patient","id":"a","input":1}'
        post = POST.replace(b"/v1/runs", b"/v1/runs?wait=100")
        await wire.send(post + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await asyncio.wait_for(runs.waiting.wait(), 5)
        wire.writer.close()
        await asyncio.wait_for(ended.wait(), 5)


async def test_stopping_finishes_what_is_under_way_and_refuses_the_rest():
    runs = MemoryRuns()
    entered, let_go = asyncio.Event(), asyncio.Event()

    async def get(run):
        entered.set()
        await let_go.wait()
        raise UnknownRun

    runs.get = get
    async with served(runs) as server, connected(server.port) as busy, connected(server.port) as idle:
        await busy.send(b"GET /v1/runs/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(entered.wait(), 5)
        stopping = asyncio.create_task(server.stop())
        assert await idle.rest() == b""
        with pytest.raises(OSError):  # noqa: PT011 (refused or reset, by platform)
            async with connected(server.port):
                pass
        assert not stopping.done()
        let_go.set()
        response = await busy.rest()
        assert response.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" in response
        await asyncio.wait_for(stopping, 5)
        await server.stop()


async def test_stopping_does_not_wait_for_ever():
    runs = MemoryRuns()
    entered = asyncio.Event()

    async def get(run):
        entered.set()
        await asyncio.Event().wait()

    runs.get = get
    async with served(runs, stop_timeout_s=0.1) as server, connected(server.port) as wire:
        await wire.send(b"GET /v1/runs/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(entered.wait(), 5)
        await asyncio.wait_for(server.stop(), 5)
        assert problem(await wire.rest())["code"] == "draining"


async def test_signal_handlers_are_left_alone_and_a_taken_port_is_an_error():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with served(MemoryRuns()) as server:
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        with pytest.raises(OSError, match="in use"):
            async with served(MemoryRuns(), port=server.port):
                pass


async def test_time_in_which_the_process_stood_still_is_nobodys_fault():
    limits = {"headers_timeout_s": 5.0, "idle_timeout_s": 5.0}
    async with served(MemoryRuns(), **limits) as server, connected(server.port) as wire:
        await wire.send(GET + b"GET /health HT")
        assert (await wire.response())[0] == 200
        now = asyncio.get_running_loop().time()
        server.connections.sweep(now + 20, late_s=20)
        await wire.send(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await wire.response())[0] == 200
