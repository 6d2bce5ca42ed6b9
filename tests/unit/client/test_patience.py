"""What is sent again, what is not, and for how long: against servers that answer by script."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pointsman import AsyncClient
from pointsman.client import DeadlinePassed, Refused, Unreachable, exchange
from pointsman.client.asks import Ask
from pointsman.client.patience import ConnectionRefused, Patience
from pointsman.kernel.errors import StoreUnavailable, UnknownRun
from tests.unit.client.conftest import in_thread, scripted

BROKEN = b""
CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"


def http(status: str, body: Any, *headers: str) -> bytes:
    raw = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(raw)}", *headers]
    return "\r\n".join([*lines, "connection: close", "", ""]).encode() + raw


def problem(status: str, code: str, *headers: str) -> bytes:
    return http(status, {"code": code, "detail": code, "status": int(status[:3])}, *headers)


ACCEPTED = http("202 Accepted", {"run": "a", "key": "k", "repeated": False})
BUSY = problem("503 Service Unavailable", "store_unavailable")


@pytest.mark.parametrize("answers", [(BROKEN,), (CUT, BROKEN), (BUSY, BUSY)])
def test_what_is_done_once_by_its_key_is_sent_again_with_the_same(kind: Any, answers: tuple[bytes, ...]) -> None:
    with scripted(*answers, ACCEPTED) as (script, url), kind(url) as client:
        assert client.signal("a", "go", 1).run == "a"
    assert len(script.requests) == len(answers) + 1
    assert len(set(script.requests)) == 1
    assert b"idempotency-key: " in script.requests[0].lower()


def test_what_would_be_done_twice_is_not_sent_again(kind: Any) -> None:
    for answer, error in ((BROKEN, Unreachable), (BUSY, StoreUnavailable)):
        with scripted(answer) as (script, url), kind(url) as client:
            with pytest.raises(error):
                client.release("a")
            with pytest.raises(error):
                client.redrive("a")
            with pytest.raises(error):
                client.assign("t", "ann", by="me")
        assert len(script.requests) == 3


def test_a_start_carries_a_key_unless_it_has_an_id(kind: Any) -> None:
    with scripted(problem("404 Not Found", "unknown_run")) as (script, url), kind(url) as client:
        for more in ({}, {"key": "mine"}, {"id": "a"}):
            with pytest.raises(UnknownRun):
                client.start("w", {"b": 1, "a": 2}, **more)
    keys = [b"idempotency-key: " in request.lower() for request in script.requests]
    assert keys == [True, True, False]
    assert script.requests[2].endswith(b'{"workflow":"w","id":"a","input":{"a":2,"b":1}}')


def test_it_waits_as_long_as_it_is_asked_to(kind: Any) -> None:
    asks = problem("503 Service Unavailable", "store_unavailable", "retry-after: 1")
    elsewhere = problem("503 Service Unavailable", "draining", "retry-after: 20", "pointsman-retry-elsewhere: 1")
    for answer, low, high in ((asks, 1.0, 10.0), (elsewhere, 0.0, 10.0)):
        with scripted(answer, ACCEPTED) as (_, url), kind(url) as client:
            began = time.monotonic()
            client.cancel("a")
            assert low <= time.monotonic() - began < high


def test_it_gives_up_with_the_error_that_there_was(kind: Any) -> None:
    with scripted(BUSY) as (script, url), kind(url, retry_for=0.2) as client, pytest.raises(StoreUnavailable):
        client.get("a")
    assert 2 <= len(script.requests) <= 6
    with kind("http://127.0.0.1:9", connect_for=0.1) as client:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"no answer from http://127\.0\.0\.1:9 .*pointsman up"):
            client.get("a")
        with pytest.raises(Unreachable):
            list(client.follow("a"))
        assert time.monotonic() - began < 5


def test_what_is_not_this_api_is_said(kind: Any) -> None:
    page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"
    with scripted(page) as (_, url), kind(url) as client, pytest.raises(Refused, match="not as Pointsman's API does"):
        client.get("a")


def sse(*frames: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 " + status + b"\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: following\n\n"
    return head + b"".join(frames)


def frame(sequence: int) -> bytes:
    data = {"sequence": sequence, "at": "2026-01-31T12:00:00.123Z", "type": "T", "version": 1, "data": {}, "epoch": 1}
    return f"id: {sequence}\nevent: T\ndata: {json.dumps(data)}\n\n".encode()


END = b"event: end\ndata: {}\n\n"


def test_a_stream_is_taken_up_after_the_last_event_and_gives_each_once(kind: Any) -> None:
    half = frame(3)[:30]
    with scripted(
        sse(frame(1), frame(2), half), BROKEN, BUSY, sse(frame(2), frame(3)), sse(b": still here\n\n", frame(4), END)
    ) as (script, url), kind(url) as client:  # fmt: skip
        assert [event.sequence for event in client.follow("a")] == [1, 2, 3, 4]
    last = [request.lower().partition(b"last-event-id: ")[2].partition(b"\r\n")[0] for request in script.requests]
    assert last == [b"0", b"2", b"2", b"2", b"3"]


def test_a_stream_that_only_ever_closes_is_given_up(kind: Any) -> None:
    closed = pytest.raises(Unreachable, match="closed the stream before the run's end")
    with scripted(sse()) as (script, url), kind(url, retry_for=0.2) as client, closed:
        list(client.follow("a"))
    assert 2 <= len(script.requests) <= 6


def test_a_problem_in_a_stream_is_its_error(kind: Any) -> None:
    body = json.dumps({"code": "unknown_run", "status": 404, "detail": "it was deleted"})
    gone = sse(frame(1), f"event: problem\ndata: {body}\n\n".encode())
    with scripted(gone) as (_, url), kind(url) as client:
        following = client.follow("a", after=0)
        assert next(following).sequence == 1
        with pytest.raises(UnknownRun, match="it was deleted"):
            next(following)


def test_a_stream_that_is_read_no_more_is_left_at_once(kind: Any) -> None:
    """Its connection is closed when `follow` is: the asyncio client's loop stands still after that."""
    left = threading.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sse(frame(1), frame(2), END))
        await reader.read()
        left.set()
        writer.close()

    async def serve(up: Callable[[str], None], down: asyncio.Event) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        up(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await down.wait()
        server.close()

    with in_thread(serve) as url, kind(url) as client:
        assert [event.sequence for event in client.follow("a")] == [1, 2]
        assert left.wait(5), "to its end"
        left.clear()
        following = client.follow("a")
        next(following)
        following.close()
        assert left.wait(5), "or given up"


MANY = 110
"""More than httpx opens connections unless it is told to."""


async def holding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers a signal, gives a stream one event, and holds what waits until its client leaves."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"/signals/" in head:
        writer.write(ACCEPTED)
    else:
        writer.write(sse(frame(1)) if b"/stream" in head else b"")
        await reader.read()
    writer.close()


async def hold(up: Callable[[str], None], down: asyncio.Event) -> None:
    server = await asyncio.start_server(holding, "127.0.0.1", 0)
    up(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await down.wait()
    server.close()


def test_streams_hold_up_nothing_else(kind: Any) -> None:
    """A hundred of them took all connections: the signal that their runs waited for came when one of them ended."""
    with in_thread(hold) as url, kind(url, retry_for=0) as client:
        streams = [client.follow("a") for _ in range(MANY)]
        assert [next(stream).sequence for stream in streams] == [1] * MANY
        assert client.signal("a", "go", 1).run == "a"
        for stream in streams:
            stream.close()


async def test_waits_hold_up_nothing_else() -> None:
    with in_thread(hold) as url:
        async with AsyncClient(url) as client, asyncio.timeout(20):
            waits = [asyncio.create_task(client.start("w", id=f"r{n}", wait=60)) for n in range(MANY)]
            await asyncio.sleep(0)  # all of them have asked for a connection
            assert (await client.signal("a", "go", 1)).run == "a"
            for wait in waits:
                wait.cancel()


def test_to_wait_for_a_connection_of_ones_own_is_no_silence_of_others() -> None:
    """Ten thousand starts at a time found nobody there after 30 s: they had waited for each other."""
    asks = Ask(type=Any, method="GET", path="/v1/runs")
    assert exchange.arguments(asks)["timeout"].pool is None
    soon = exchange.arguments(replace(asks, until=time.monotonic() + 5))["timeout"].pool
    assert 5 <= soon <= 5 + exchange.GRACE_S


@pytest.mark.parametrize(
    ("error", "repeats", "trying_s", "has_answered", "goes_on"),
    [
        (Unreachable(), True, 28.0, True, True),
        (Unreachable(), True, 31.0, True, False),
        (Unreachable(), True, 6.0, False, False),
        (Unreachable(), False, 0.0, True, False),
        (ConnectionRefused(), False, 0.0, True, True),
        (UnknownRun(), True, 0.0, True, False),
    ],
)
def test_patience(error: Any, repeats: bool, trying_s: float, has_answered: bool, goes_on: bool) -> None:
    def pause_s() -> float:
        return Patience().pause_s(
            error, tries=50, trying_s=trying_s, has_answered=has_answered, repeats=repeats, retry_after_s=0.0
        )

    if goes_on:
        assert 0.8 <= pause_s() <= 1.2
    else:
        with pytest.raises(type(error)):
            pause_s()


def test_a_wait_ends_with_its_deadline_where_nobody_answers(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "GRACE_S", 0.05)
    with socket.socket() as silent:  # takes connections, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(20)
        with (
            kind(f"http://127.0.0.1:{silent.getsockname()[1]}") as client,
            pytest.raises(DeadlinePassed, match="nobody said within") as caught,
        ):
            client.result("a", timeout=0.02)
    assert isinstance(caught.value.__cause__, Unreachable)


def test_a_wait_ends_with_its_deadline_where_every_answer_is_to_come_back_later(kind: Any) -> None:
    busy = problem("503 Service Unavailable", "store_unavailable", "retry-after: 5")
    with (
        scripted(busy, busy, busy) as (script, url),
        kind(url, retry_for=7, connect_for=7) as client,
        pytest.raises(DeadlinePassed, match="nobody said"),
    ):
        client.result("a", timeout=0.02)
    assert len(script.requests) <= 2, "perhaps one more at the deadline"
