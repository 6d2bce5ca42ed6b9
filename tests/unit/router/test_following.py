"""Event streams through the router: a coordinator that leaves or dies in the middle is not the client's trouble."""

import asyncio
import json

import pytest

from pointsman.router.following import Following
from tests.unit.router.test_holding import Scripted, announce
from tests.unit.router.test_router import Cut, ask, header, post, router, shut, upstream

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FOLLOW = b"GET /v1/runs/x/stream HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 2\r\nConnection: close\r\n\r\n"
DRAINING = b"HTTP/1.1 503 No\r\nPointsman-Retry-Elsewhere: 1\r\nContent-Length: 2\r\n\r\nno"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def frame(number: int) -> bytes:
    return b"id: %d\nevent: Moved\ndata: {}\n\n" % number


END = b"event: end\ndata: {}\n\n"


def frames_of(answer: bytes) -> bytes:
    """The body of a chunked response; fails if it was cut."""
    rest, out = answer.split(b"\r\n\r\n", 1)[1], b""
    while True:
        size, rest = rest.split(b"\r\n", 1)
        if not int(size, 16):
            assert rest == b"\r\n"
            return out
        out, rest = out + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


@pytest.mark.parametrize(
    "broken",
    [
        Cut(STREAM + chunk(frame(3)) + chunk(frame(4)[:-9])),  # dies in the middle of a frame
        Cut(STREAM + chunk(frame(3))[:-2]),
        STREAM + chunk(frame(3) + b": this coordinator is leaving\n\n") + LAST_CHUNK,
    ],
    ids=["dies in a frame", "dies in a chunk", "leaves"],
)
async def test_a_stream_goes_on_at_another_coordinator_after_the_last_event(broken: bytes):
    script = Scripted(broken, DRAINING, STREAM + chunk(frame(4)) + chunk(END) + LAST_CHUNK)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        upstream(script.react_as("c")) as (_, c),
        router(a, b, c) as service,
    ):
        answer = await ask(service, FOLLOW)
        metrics = await ask(service, post("/router/metrics").replace(b"POST", b"GET"))
    body = frames_of(answer)
    assert body.replace(b": this coordinator is leaving\n\n", b"") == frame(3) + frame(4) + END
    assert answer.count(b"HTTP/1.1") == 1
    assert len({name for name, _ in script.seen}) == 3
    last_ids = [header(request, b"last-event-id") for _, request in script.seen]
    assert last_ids == [b"2", b"3", b"3"]
    assert b'retries_total{reason="resumed"} 1\n' in metrics


async def test_a_stream_that_has_ended_is_not_asked_for_again():
    async with upstream(lambda _: STREAM + chunk(frame(3)) + chunk(END) + LAST_CHUNK) as (up, a), router(a) as service:
        assert frames_of(await ask(service, FOLLOW)) == frame(3) + END
    assert len(up.seen) == 1


async def test_a_stream_of_which_nothing_ever_comes_is_cut_in_the_end():
    comment = Cut(STREAM + chunk(b": following\n\n"))
    async with upstream(lambda _: comment) as (up, a), router(a, breaks_max=4) as service:
        answer = await ask(service, FOLLOW)
    assert not answer.endswith(LAST_CHUNK)
    assert len(up.seen) == 4


async def test_a_stream_that_is_refused_elsewhere_is_cut():
    """The client asks again, and gets to see the error itself."""
    missing = b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"
    script = Scripted(Cut(STREAM + chunk(frame(3))), missing)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        router(a, b) as service,
    ):
        answer = await ask(service, FOLLOW)
    assert answer.endswith(chunk(frame(3)))
    assert len(script.seen) == 2


async def test_a_frame_too_long_to_hold_flows_and_a_break_in_it_is_a_cut():
    long = b"id: 3\nevent: Moved\ndata: " + b"x" * 200
    async with (
        upstream(lambda _: Cut(STREAM + chunk(long))) as (up, a),
        router(a, held_response_bytes_max=100) as service,
    ):
        answer = await ask(service, FOLLOW)
    assert answer.endswith(chunk(long))
    assert len(up.seen) == 1


async def test_another_stream_than_one_of_events_is_cut():
    other = STREAM.replace(b"text/event-stream", b"text/plain")
    async with upstream(lambda _: Cut(other + chunk(frame(3)))) as (up, a), router(a) as service:
        assert (await ask(service, FOLLOW)).endswith(chunk(frame(3)))
    assert len(up.seen) == 1


async def test_a_router_that_stops_ends_its_streams_in_order():
    stream = STREAM + chunk(frame(3)) + chunk(frame(4)[:-9])
    async with upstream(lambda _: stream) as (_, a), router(a, stop_timeout_s=5) as service:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(FOLLOW.replace(b"Connection: close\r\n", b""))
        await reader.readuntil(frame(3) + b"\r\n")
        async with asyncio.timeout(2):
            await service.stop()
        assert await reader.read() == LAST_CHUNK
        await shut(writer)


async def test_a_stopped_coordinator_loses_its_streams():
    """It takes everything and says nothing more: only its silence tells."""
    script = Scripted(STREAM + chunk(frame(3)), STREAM + chunk(frame(4)) + chunk(END) + LAST_CHUNK)
    async with (
        upstream(script.react_as("a")) as (_, a),
        upstream(script.react_as("b")) as (_, b),
        router(silent_s=0.3, silence_every_s=0.02, sweep_every_s=60) as service,
    ):
        await announce(service, "a", a)
        asking = asyncio.create_task(ask(service, FOLLOW))
        async with asyncio.timeout(5):
            while not script.seen:
                await asyncio.sleep(0.005)
            await announce(service, "b", b)
            while not asking.done():
                await asyncio.wait([asking], timeout=0.1)
                await announce(service, "b", b)
    assert frames_of(asking.result()) == frame(3) + frame(4) + END
    assert [name for name, _ in script.seen] == ["a", "b"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_only_whole_frames_are_passed_on(size: int):
    stream = b": following\n\n" + frame(1) + b": still here\n\n" + frame(22) + END
    following, out = Following(100), b""
    for at in range(0, len(stream), size):
        out += following.feed(stream[at : at + size])
        assert out == b"" or out.endswith(b"\n\n")
        assert stream.startswith(out)
    assert out == stream
    assert following.last_id == b"22"
    assert following.has_ended
    assert not following.can_resume


def test_data_is_never_taken_for_an_id():
    following = Following(1_000)
    said = json.dumps({"text": "id: 9\nevent: end\n\n"}).encode()
    following.feed(b"id: 1\nevent: Moved\ndata: " + said + b"\n\n")
    assert following.last_id == b"1"
    assert following.can_resume


def test_a_frame_too_long_to_hold_is_not_asked_for_again_once_it_is_whole():
    following = Following(100)
    long = b"id: 3\nevent: Moved\ndata: " + b"x" * 200
    out = following.feed(frame(2) + long)
    assert not following.can_resume
    out += following.feed(b"y\n\n")
    assert out == frame(2) + long + b"y\n\n"
    assert following.can_resume
    assert following.last_id == b"3"
    following.feed(frame(4))
    assert following.last_id == b"4"
