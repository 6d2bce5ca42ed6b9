"""Tokens, limits, deadlines and odd clients, over real sockets."""

import asyncio
import contextlib
import hashlib
import json
import socket
import time

import pytest

from pointsman.router import RouterService
from pointsman.router.protocol import ClientConnection
from tests.unit.router.test_router import OK, ask, header, post, router, shut, upstream


def get(path: str, extra: str = "", version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n{extra}\r\n".encode()


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


def said(address: str) -> bytes:
    return json.dumps({"name": "a", "address": address, "incarnation": 1}).encode()


async def status(service: RouterService, request: bytes) -> int:
    return int((await ask(service, request)).split(b" ")[1])


@pytest.mark.parametrize("path", ["/v1/runs", "/router/metrics", "/router/coordinators", "/router/x", "/x"])
async def test_all_but_health_and_ready_ask_for_the_token(path: str):
    async with upstream(lambda _: OK) as (up, a), router(a, token="t", announce_token="n") as service:
        for extra in ("", bearer("wrong"), bearer("n"), "Authorization: Basic t\r\n"):
            assert await status(service, get(path, extra)) == 401
        assert up.seen == []
        assert await status(service, get(path, bearer("t"))) in (200, 404)
        assert [await status(service, get(p)) for p in ("/health", "/ready")] == [200, 200]


async def test_without_a_token_a_foreign_name_reaches_nothing():
    """A page whose own name has this machine's address by now: its requests look like anybody's but for the name."""
    async with upstream(lambda _: OK) as (up, a), router(a) as service:
        for path in ("/v1/runs", "/router/metrics", "/router/x"):
            for host in ("evil.test:7777", "127.0.0.1.evil.test", "10.0.0.1"):
                answer = await ask(service, get(path).replace(b"localhost", host.encode()))
                assert answer.startswith(b"HTTP/1.1 403")
                assert b'"foreign_host"' in answer
        announcement = post("/router/announce", said(a)).replace(b"localhost", b"evil.test")
        assert await status(service, announcement) == 403
        assert up.seen == []
        for host in ("127.0.0.1:7777", "[::1]:1", "LOCALHOST"):
            assert await status(service, get("/v1/runs/x").replace(b"localhost", host.encode())) == 200
        assert header(up.seen[-1], b"host") == b"LOCALHOST"


async def test_a_router_with_a_token_asks_coordinators_under_a_name_that_is_theirs():
    """They may have no token, behind one that has: it checked who asks, and they would refuse the name."""
    async with upstream(lambda _: OK) as (up, a), router(a, token="t") as service:
        request = get("/v1/runs/x", bearer("t")).replace(b"localhost", b"api.example.org")
        assert await status(service, request) == 200
        assert up.seen[0].count(b"\r\nHost: localhost\r\n") == 1
        assert b"api.example.org" not in up.seen[0]


async def test_announcing_takes_its_own_token():
    async with router(token="t", announce_token="n") as service:
        for extra, wanted in (("", 401), (bearer("t"), 401), (bearer("n"), 200)):
            assert await status(service, post("/router/announce", said("127.0.0.1:1"), extra)) == wanted


async def test_metrics_and_coordinators_tell_what_happened():
    async with upstream(lambda _: OK) as (_, a), router(a) as service:
        await ask(service, get("/v1/runs/x"))
        metrics = await ask(service, get("/router/metrics"))
        listed = json.loads((await ask(service, get("/router/coordinators"))).split(b"\r\n\r\n")[1])
    assert b'pointsman_router_requests_total{status="2xx"} 1\n' in metrics
    assert f'upstream_seconds_count{{coordinator="{a}"}} 1\n'.encode() in metrics
    assert [(row["address"], row["state"]) for row in listed["coordinators"]] == [(a, "live")]


async def test_the_connection_over_the_cap_is_told():
    async with router(connections_max=1) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        assert b"too_many_connections" in await ask(service, b"")
        await shut(writer)


@pytest.mark.parametrize(("answer", "code"), [(b"nonsense\r\n\r\n", b"upstream_invalid"), (None, b"upstream_broken")])
async def test_a_coordinator_that_speaks_no_http_or_always_breaks(answer: bytes | None, code: bytes):
    async with upstream(lambda _: answer) as (up, a), router(a, breaks_max=3) as service:
        got = await ask(service, get("/v1/runs/x"))
    assert got.startswith(b"HTTP/1.1 502")
    assert code in got
    assert len(up.seen) == (3 if answer is None else 1)


async def test_no_answer_in_time():
    async with upstream(lambda _: b"") as (_, a), router(a, response_timeout_s=0.1, sweep_every_s=0.02) as s:
        assert b"upstream_timeout" in await ask(s, get("/v1/runs/x"))


async def test_an_idle_client_is_closed():
    async with router(idle_timeout_s=0.1, sweep_every_s=0.02) as service:
        assert await ask(service, b"") == b""


async def test_a_stale_connection_is_not_the_clients_trouble():
    seen = []

    def react(head: bytes) -> bytes | None:
        seen.append(head)
        return None if len(seen) == 2 else OK

    async with upstream(react) as (_, a), router(a) as service:
        assert [await status(service, get("/v1/runs/x")) for _ in range(2)] == [200, 200]
        metrics = await ask(service, get("/router/metrics"))
    assert b'retries_total{reason="stale"} 1\n' in metrics


@pytest.mark.parametrize("announced", [True, False])
async def test_a_silent_coordinator_loses_what_waits_for_it(announced: bool):
    asked = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers probes until the first request comes; from then on takes everything and answers nothing."""
        with contextlib.suppress(asyncio.IncompleteReadError):
            while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health ") and not asked.is_set():
                writer.write(OK)
            asked.set()
            await reader.read()
        await shut(writer)

    times = {"silent_s": 0.3, "probe_every_s": 0.1, "probe_timeout_s": 0.2, "sweep_every_s": 0.05}
    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        silent = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with upstream(lambda _: OK) as (_, a), router(*([a] if announced else [silent, a]), **times) as s:
            while not asked.is_set():  # once more, if the machine stood still for longer than `silent_s` in between
                if announced:
                    assert await status(s, post("/router/announce", said(silent))) == 200
                began = time.monotonic()
                answers = await asyncio.gather(*(ask(s, get(f"/v1/runs/{n}")) for n in range(16)))
                assert {answer.split(b" ")[1] for answer in answers} == {b"200"}
            assert time.monotonic() - began < 5


async def test_stop_waits_for_what_is_under_way_up_to_its_deadline():
    seen = asyncio.Event()

    def react(_: bytes) -> bytes:
        seen.set()
        return b""

    async with upstream(react) as (_, a), router(a, stop_timeout_s=0.2) as service:
        waiting = asyncio.create_task(ask(service, get("/v1/runs/x")))
        await seen.wait()
        began = time.monotonic()
        await service.stop()
        assert 0.15 < time.monotonic() - began < 5
        await asyncio.gather(waiting, return_exceptions=True)


async def test_who_is_accepted_while_it_stops_is_not_kept():
    """The loop may tell of it after the server was closed; from Python 3.12 on, the stop waits for its end."""
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    with far:
        async with router() as service:
            await service.stop()
            transport, _ = await loop.connect_accepted_socket(lambda: ClientConnection(service._router), near)
            try:
                async with asyncio.timeout(5):
                    assert await loop.sock_recv(far, 1) == b""
            finally:
                transport.abort()


async def test_keys_ids_and_headers_sent_on():
    async with upstream(lambda _: OK) as (up, a), router(a) as service:
        await ask(service, post("/v1/runs/x/signals/s"))
        await ask(service, post("/v1/runs", b'{"tenant":"t1"}', "Idempotency-Key: k\r\n"))
        await ask(service, post("/v1/runs", b'{"id":"b"}', "Pointsman-Run-Id: h\r\n"))
        await ask(service, post("/v1/runs", b"{}", "Pointsman-Run-Id: h\r\n"))
        await ask(service, post("/v1/runs/x/cancel", b"{}", "Connection: X-Gone\r\nX-Gone: 1\r\n"))
    signal, derived, both, only, dropped = up.seen
    assert len(header(signal, b"idempotency-key")) == 32
    wanted = "idem-" + hashlib.sha256(b"t1\0k").hexdigest()[:32]
    assert header(derived, b"pointsman-run-id") == wanted.encode()
    for request, run in ((both, b"b"), (only, b"h")):
        assert request.lower().count(b"pointsman-run-id") == 1
        assert header(request, b"pointsman-run-id") == run
    assert b"x-gone" not in dropped.lower()
    assert b"x-request-id" not in dropped.lower()
    assert header(dropped, b"pointsman-request-id")


async def test_bodies_over_the_total_cap_and_freed_again():
    async with upstream(lambda _: OK) as (_, a), router(a, bodies_bytes_max=10, linger_s=0.1) as service:
        for _ in range(3):
            assert await status(service, post("/v1/runs", b'{"id":"b"}')) == 200
        assert b"too_many_bodies" in await ask(service, post("/v1/runs", b'{"id":"bc"}'))


async def test_old_clients_pipelining_and_expect():
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    async with upstream(lambda _: chunked) as (_, a), router(a) as service:
        old = await ask(service, get("/v1/runs/x", version="1.0"))
        assert old.endswith(b"\r\n\r\nok")
        assert b"chunked" not in old.lower()
        two = await ask(service, b"GET /v1/runs/x HTTP/1.1\r\nHost: localhost\r\n\r\n" + get("/health"))
        assert two.index(b"0\r\n\r\n") < two.index(b'{"status":"ok"}')
        expect = post("/v1/runs", b"{}", "Expect: 100-continue\r\n")[:-2]
        assert await ask(service, expect, until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(("method", "code"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_responses_without_a_body(method: str, code: int):
    length = b"" if code == 204 else b"Content-Length: 2\r\n"
    async with upstream(lambda _: b"HTTP/1.1 %d X\r\n%b\r\n" % (code, length)) as (_, a), router(a) as s:
        got = await ask(s, get("/v1/runs/x", method=method))
    assert got.startswith(b"HTTP/1.1 %d" % code)
    assert got.endswith(b"\r\n\r\n")
    assert b"chunked" not in got.lower()
