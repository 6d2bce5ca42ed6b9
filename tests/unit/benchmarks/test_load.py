"""The clients of the cluster, against a small server of the test's own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from benchmarks.triage import load
from benchmarks.triage.data import Ticket
from benchmarks.triage.load import BadResponse, Load, parse_head

TICKETS = [Ticket(row, f"question {row}", "cash") for row in range(6)]
Answer = Callable[[dict[str, Any], int], "tuple[int, dict[str, Any]] | None"]
"""From a request's body and how often this run was asked for: status and body, or None for a broken connection."""


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_S", 5.0)


class Server:
    def __init__(self, answer: Answer) -> None:
        self.asked: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.connections: list[asyncio.Task[Any] | None] = []
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                assert head.startswith(b"POST /v1/runs?wait=5 HTTP/1.1\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = msgspec.json.decode(await reader.readexactly(length))
                self.asked[body["id"]] += 1
                self.bodies[body["id"]] = body
                said = self._answer(body, self.asked[body["id"]])
                if said is None:
                    return
                raw = msgspec.json.encode(said[1])
                writer.write(b"HTTP/1.1 %d Fine\r\nContent-Length: %d\r\n\r\n%b" % (said[0], len(raw), raw))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def under_load(answer: Answer) -> AsyncIterator[tuple[Server, Load]]:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(20):
            yield server, Load(f"http://127.0.0.1:{port}", TICKETS, prefix="t", per_second=1e6)
    finally:
        listener.close()
        await listener.wait_closed()
        await asyncio.gather(*(task for task in server.connections if task is not None))


def completed(_body: dict[str, Any], _times: int) -> tuple[int, dict[str, Any]]:
    return 201, {"status": "completed", "wake_at": None, "output": 1}


async def test_every_ticket_is_sent_once_and_its_answer_is_timed() -> None:
    gone: list[int] = []
    async with under_load(completed) as (server, sender):
        await sender.run(gone.append)
    assert dict(server.asked) == {f"t-{number}": 1 for number in range(6)}
    assert server.bodies["t-3"] == {"workflow": "support", "id": "t-3", "input": {"row": 3, "text": "question 3"}}
    assert gone == [1, 2, 3, 4, 5, 6]
    assert sender.errors == []
    assert all(0 < (sent.latency_s or 0) <= (sent.ended_s or 0) for sent in sender.sent.values())
    assert 1 <= sender.under_way_most <= 6


async def test_a_run_on_its_way_is_asked_for_again_under_its_id() -> None:
    def slow(body: dict[str, Any], times: int) -> tuple[int, dict[str, Any]]:
        waits = {"status": "parked", "wake_at": "2026-01-01T00:00:00.000Z"} if times == 1 else {"status": "running"}
        return (201, waits) if times <= 2 else completed(body, times)

    async with under_load(slow) as (server, sender):
        await sender.run(lambda _: None)
    assert set(server.asked.values()) == {3}
    assert sender.errors == []


async def test_a_ticket_with_a_person_has_no_answer_and_keeps_no_client() -> None:
    async with under_load(lambda _body, _times: (201, {"status": "parked", "wake_at": None})) as (server, sender):
        await sender.run(lambda _: None)
    assert set(server.asked.values()) == {1}
    assert {sent.latency_s for sent in sender.sent.values()} == {None}


async def test_a_failed_run_has_no_answer() -> None:
    async with under_load(lambda _body, _times: (201, {"status": "failed"})) as (_, sender):
        await sender.run(lambda _: None)
    assert {sent.ended_s for sent in sender.sent.values()} == {None}


async def test_broken_connections_and_refusals_are_counted_and_tried_again() -> None:
    def flaky(body: dict[str, Any], times: int) -> tuple[int, dict[str, Any]] | None:
        if body["id"] == "t-0" and times == 1:
            return None
        return (503, {"detail": "not now"}) if body["id"] == "t-1" and times == 1 else completed(body, times)

    async with under_load(flaky) as (server, sender):
        await sender.run(lambda _: None)
    assert (server.asked["t-0"], server.asked["t-1"]) == (2, 2)
    assert sorted(error[:6] for error in sender.errors) == ["503: {", "Incomp"]
    assert all(sent.latency_s is not None for sent in sender.sent.values())


async def test_a_client_goes_when_its_patience_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_S", 0.0)
    async with under_load(lambda _body, _times: (201, {"status": "running"})) as (_, sender):
        await sender.run(lambda _: None)
    assert {sent.latency_s for sent in sender.sent.values()} == {None}


async def test_connections_are_kept() -> None:
    async with under_load(completed) as (server, sender):
        sender._per_second = 100.0
        await sender.run(lambda _: None)
    assert len(server.connections) < len(TICKETS)


def test_a_head_is_status_and_length() -> None:
    assert parse_head(b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 17\r\nX: y\r\n\r\n") == (201, 17)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\n\r\n", b"HTTP/1.1 x\r\nContent-Length: 1\r\n\r\n"]
)
def test_anything_else_is_refused(head: bytes) -> None:
    with pytest.raises(BadResponse):
        parse_head(head)
