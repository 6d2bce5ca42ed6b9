"""Live events: every event once and in order, resumed anywhere, ended in words, in nobody's way."""

import asyncio

import msgspec
import pytest

from pointsman.kernel.errors import StoreUnavailable
from tests.unit.api.memory_runs import Bench, MemoryRuns, connected, served


def frames(text: str) -> list[dict[str, str]]:
    parsed = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            parsed.append(fields)
    return parsed


async def test_a_stream_has_every_event_and_then_ends_in_words():
    bench = Bench()
    await bench.start(id="a", data={"x": 1})
    for path, headers in (("stream", {}), ("events", {"Accept": "text/event-stream"})):
        response = await bench.client.get(f"/v1/runs/a/{path}", headers=headers)
        assert response.headers["content-type"] == "text/event-stream"
        first, second, end = frames(response.text)
        assert (first["id"], first["event"]) == ("1", "RunStarted")
        assert msgspec.json.decode(first["data"]) == {
            "sequence": 1,
            "at": "2026-01-01T00:00:00.007Z",
            "type": "RunStarted",
            "version": 1,
            "data": {"x": 1},
            "epoch": 0,
        }
        assert (second["id"], end) == ("2", {"event": "end", "data": "{}"})


async def test_a_stream_resumes_after_the_last_event_id_or_after():
    bench = Bench()
    await bench.start(id="a")
    get = bench.client.get
    assert [frame.get("id") for frame in frames((await get("/v1/runs/a/stream?after=1")).text)] == ["2", None]
    resumed = await get("/v1/runs/a/stream?after=0", headers={"Last-Event-ID": "1"})
    assert [frame.get("id") for frame in frames(resumed.text)] == ["2", None]
    done = await get("/v1/runs/a/stream", headers={"Last-Event-ID": "2"})
    assert frames(done.text) == [{"event": "end", "data": "{}"}]


@pytest.mark.parametrize("last", ["x", "-1", "", "1.5", "9" * 17, "1 OR 1=1"])
async def test_a_last_event_id_is_a_sequence(last):
    bench = Bench()
    await bench.start(id="a")
    response = await bench.client.get("/v1/runs/a/stream", headers={"Last-Event-ID": last})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_header")


async def test_line_ends_in_stored_json_do_not_end_a_field():
    bench = Bench()
    await bench.start("patient", id="a")
    await bench.client.post("/v1/runs/a/signals/go", content=b'{\r\n"x":\n"a\\nb"}')
    response = await bench.client.get("/v1/runs/a/stream")
    assert [frame["event"] for frame in frames(response.text)][-1] == "end"
    assert msgspec.json.decode(frames(response.text)[1]["data"])["data"] == {"x": "a\nb"}


async def test_head_does_not_stream():
    bench = Bench()
    await bench.start("patient", id="a")
    response = await asyncio.wait_for(bench.client.head("/v1/runs/a/stream"), 5)
    assert (response.status_code, response.text) == (200, "")


async def test_a_stream_that_breaks_says_why():
    bench = Bench()
    await bench.start(id="a")

    async def follow(run, *, after=0):
        yield bench.runs.entries["a"].events[:1]
        raise StoreUnavailable

    bench.runs.follow = follow
    first, problem = frames((await bench.client.get("/v1/runs/a/stream")).text)
    assert first["id"] == "1"
    assert problem["event"] == "problem"
    assert msgspec.json.decode(problem["data"])["code"] == "store_unavailable"


async def test_events_come_live_heartbeats_between_them_and_the_end_is_said():
    runs = MemoryRuns()
    async with served(runs, heartbeat_s=0.05) as server, connected(server.port) as wire:
        bench = Bench()
        bench.runs.entries = runs.entries
        await bench.start("patient", id="a")
        await wire.send(b"GET /v1/runs/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"id: 1" in await wire.until(b'"type":"RunStarted"')
        await wire.until(b": still here\n\n")
        await wire.until(b": still here\n\n")
        await bench.client.post("/v1/runs/a/signals/note", json="hello")
        assert b"id: 2" in await wire.until(b'"hello"')
        await bench.client.post("/v1/runs/a/signals/go")
        await wire.until(b"event: end\n")
        await wire.until(b"0\r\n\r\n")


async def test_a_heartbeat_also_comes_when_the_coordinator_says_nothing_new():
    bench = Bench(heartbeat_s=0.03)
    await bench.start(id="a")

    async def follow(run, *, after=0):
        for _ in range(12):
            await asyncio.sleep(0.01)
            yield []

    bench.runs.follow = follow
    assert (await bench.client.get("/v1/runs/a/stream")).text.count(": still here") >= 2


async def test_the_number_of_streams_is_capped_and_a_closed_one_makes_room():
    runs = MemoryRuns()
    async with served(runs, streams_max=1) as server:
        bench = Bench()
        bench.runs.entries = runs.entries
        await bench.start("patient", id="a")
        request = b"GET /v1/runs/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
        async with connected(server.port) as first, connected(server.port) as second:
            await first.send(request)
            await first.until(b"id: 1")
            await second.send(request)
            status, body = await second.response()
            assert (status, msgspec.json.decode(body)["code"]) == (503, "too_many_streams")
            closed = asyncio.Event()
            original = server.app.on_events.closed
            server.app.on_events.closed = lambda: (original(), closed.set())
            first.writer.close()
            await asyncio.wait_for(closed.wait(), 5)
            await second.send(request)
            await second.until(b"id: 1")


async def test_a_stopping_server_closes_streams_with_a_word_and_without_waiting():
    runs = MemoryRuns()
    async with served(runs, stop_timeout_s=30) as server, connected(server.port) as wire:
        bench = Bench()
        bench.runs.entries = runs.entries
        await bench.start("patient", id="a")
        await wire.send(b"GET /v1/runs/a/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wire.until(b"id: 1")
        await asyncio.wait_for(server.stop(), 5)
        rest = await wire.rest()
        assert b": this coordinator is leaving; reconnect\n\n" in rest
        assert b"event: end" not in rest
        assert rest.endswith(b"0\r\n\r\n")
