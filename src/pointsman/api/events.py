"""A run's events as they come, as server-sent events: event id = sequence, so any coordinator can resume the
stream.

Must not know who reads or where events come from (`Runs.follow`). A stream ends with `event: end` after the
run's last event; one that ends without it was cut, and the client reconnects with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.types import Receive, Scope, Send

from pointsman.api import problems, views
from pointsman.api.errors import TooManyStreams
from pointsman.api.parameters import AFTER, LIMIT, RUN, TENANT, LastSequence
from pointsman.api.reply import COMMON_HEADERS, Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import STREAM_TYPE, Answer, route
from pointsman.api.runs import INPUTS, ON_ONE, RunRoutes
from pointsman.api.waiting import Waiting
from pointsman.kernel.errors import Draining, NoSuchSequence, PointsmanError
from pointsman.ports.runs import EventView, Runs

MEDIA_TYPE = b"text/event-stream"
STILL_HERE = ": still here"
LEAVING = b": this coordinator is leaving; reconnect\n\n"
_HEADERS = [(b"content-type", MEDIA_TYPE), *COMMON_HEADERS, (b"x-accel-buffering", b"no")]
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")
"""Replaces raw line ends. In JSON they occur only between tokens, where a space means the same; in a stream they would
end the field.
"""

LAST_EVENT_ID = LastSequence(
    "Last-Event-ID",
    "Only events after this one; it stands above `after`. Any coordinator may be asked.",
    place="header",
)
STREAM = (
    "Server-sent events. Each has `id:` (its sequence), `event:` (its type) and `data:` (an `EventBody` as JSON). "
    "`event: end` comes after the run's last event; a stream that closes without it was cut: ask again with "
    "`Last-Event-ID`. `event: problem` carries a `Problem` and closes the stream. A comment comes in silence."
)

logger = logging.getLogger("pointsman.api")


class EventRoutes:
    """`/events` as a page or as a stream, and `/stream`."""

    def __init__(self, runs: Runs, routes: RunRoutes, waiting: Waiting) -> None:
        self._runs = runs
        self._routes = routes
        self._waiting = waiting
        self._open = 0

    @route(
        "list_events", "GET", "/v1/runs/{run}/events", "A page of the run's events", tag="runs",
        parameters=(RUN, AFTER, LIMIT, INPUTS, LAST_EVENT_ID, TENANT), errors=(*ON_ONE, NoSuchSequence, TooManyStreams),
        answers=(Answer(200, views.EventsBody, "A page of events.", or_stream=True),),
        about="With `Accept: text/event-stream` it is a stream, as `/stream` gives it.",
    )  # fmt: skip
    async def events(self, request: ApiRequest) -> Reply | EventStream:
        if MEDIA_TYPE in request.headers.get(b"accept", b"").lower():
            return await self.stream(request)
        return await self._routes.events(request)

    @route(
        "stream_events", "GET", "/v1/runs/{run}/stream", "The run's events as they come (server-sent events)",
        tag="runs", parameters=(RUN, AFTER, LAST_EVENT_ID, TENANT), errors=(*ON_ONE, NoSuchSequence, TooManyStreams),
        answers=(Answer(200, str, STREAM, media=STREAM_TYPE),),
    )  # fmt: skip
    async def stream(self, request: ApiRequest) -> Reply | EventStream:
        # A browser repeats the address that it began with and adds the header: the header is newer.
        last = request.value(LAST_EVENT_ID)
        after = request.value(AFTER) if last is None else last
        run = await self._routes.visible(request)
        await self._runs.events(run, after=after, limit=1)  # an error in either is answered as a problem
        if request.method == "HEAD":
            return Reply(200, b"", media_type=MEDIA_TYPE)
        if self._waiting.stopping.is_set():
            raise Draining
        if self._open >= request.settings.streams_max:
            raise TooManyStreams
        return EventStream(self, run, after, request.settings.heartbeat_s)

    def opened(self) -> None:
        self._open += 1

    def closed(self) -> None:
        self._open -= 1

    def follow(self, run: str, after: int) -> AsyncIterator[Sequence[EventView]]:
        return self._runs.follow(run, after=after)

    @property
    def stopping(self) -> asyncio.Event:
        return self._waiting.stopping


class EventStream:
    """One client's stream: waits for events, the client's disconnect, the server's stop, or the next heartbeat."""

    def __init__(self, routes: EventRoutes, run: str, after: int, heartbeat_s: float) -> None:
        self._routes = routes
        self._run = run
        self._after = after
        self._heartbeat_s = heartbeat_s
        self._spoke_at = 0.0

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self._routes.opened()
        gone = asyncio.create_task(_until_disconnect(receive))
        stop = asyncio.create_task(self._routes.stopping.wait())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._send(send, b": following\n\n")
            await self._follow(send, gone, stop)
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._routes.closed()
            await _dismiss(gone, stop)

    async def _follow(self, send: Send, gone: asyncio.Task[Any], stop: asyncio.Task[Any]) -> None:
        batches = self._routes.follow(self._run, self._after)
        batch = asyncio.ensure_future(anext(batches))
        try:
            while not gone.done():
                await self._wait(batch, gone, stop)
                if batch.done():
                    if await self._pass_on(send, batch):
                        return
                    batch = asyncio.ensure_future(anext(batches))
                if stop.done():
                    await self._send(send, LEAVING)
                    return
                if self._silence_s() >= self._heartbeat_s:
                    await self._send(send, STILL_HERE.encode() + b"\n\n")
        finally:
            await _dismiss(batch)
            close = getattr(batches, "aclose", None)  # generators have it; a bare iterator has nothing to close
            if close is not None:
                await close()

    async def _wait(self, *tasks: asyncio.Future[Any]) -> None:
        timeout_s = max(0.0, self._heartbeat_s - self._silence_s())
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    async def _pass_on(self, send: Send, batch: asyncio.Future[Sequence[EventView]]) -> bool:
        """Send the events that came. Returns True if the stream is over."""
        try:
            events = batch.result()
        except StopAsyncIteration:
            await self._send(send, b"event: end\ndata: {}\n\n")
            return True
        except Draining:
            await self._send(send, LEAVING)
            return True
        except PointsmanError as error:
            await self._send(send, b"event: problem\ndata: " + problems.describe(error) + b"\n\n")
            return True
        if events:
            await self._send(send, b"".join(_frame(event) for event in events))
        return False

    async def _send(self, send: Send, data: bytes) -> None:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        self._spoke_at = time.monotonic()

    def _silence_s(self) -> float:
        return time.monotonic() - self._spoke_at


def _frame(event: EventView) -> bytes:
    data = views.encode(views.event_body(event)).translate(_LINE_ENDS)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence, event.type.encode(), data)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _dismiss(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(result, StopAsyncIteration | PointsmanError):
            logger.error("an event stream ended badly", exc_info=result)
