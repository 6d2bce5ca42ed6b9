"""One connection to a coordinator, and the reading of responses.

Must not know clients, retries or which coordinator is chosen: a `Receiver` is told what happens.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from pointsman.router.following import MEDIA_TYPE
from pointsman.router.reading import HOP_BY_HOP

if TYPE_CHECKING:
    from pointsman.router.pool import Pool

RETRY_ELSEWHERE = b"pointsman-retry-elsewhere"
_SPECIAL = HOP_BY_HOP | {b"content-length", RETRY_ELSEWHERE}


class ResponseHead:
    """Status line and headers of one response. `length` is None where the body ends otherwise."""

    __slots__ = ("chunked", "elsewhere", "elsewhere_once", "is_event_stream", "length", "lines", "reason", "status")

    def __init__(self) -> None:
        self.status = 0
        self.reason = b""
        self.lines: list[bytes] = []
        self.length: int | None = None
        self.chunked = False
        self.elsewhere = False
        self.elsewhere_once = False
        self.is_event_stream = False


class Receiver(Protocol):
    """Who waits for a response."""

    bodyless: bool
    """The request was HEAD."""

    def on_connected(self, connection: UpstreamConnection) -> None: ...
    def on_connect_failed(self, error: OSError) -> None: ...
    def on_head(self, head: ResponseHead) -> None: ...
    def on_body(self, chunk: bytes) -> None: ...
    def on_flush(self) -> None:
        """All that came in at once has been told."""

    def on_end(self) -> None: ...
    def on_lost(self, *, reused: bool) -> None: ...
    def on_invalid(self) -> None: ...
    def on_silent(self) -> bool:
        """Its coordinator fell silent. True if the receiver lets go of the connection."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._receiver: Receiver | None = None
        self._used = False
        self._paused = False
        self.idle_since = 0.0

    def _expect_response(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._head = ResponseHead()
        self._head_bytes = 0
        self._in_body = False
        self._complete = False
        self._keep = False
        self._until_close = False
        self._failed = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, receiver: Receiver, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            receiver.on_lost(reused=self._used)
            return
        self._receiver = receiver
        self._pool.busy.add(self)
        self._expect_response()
        self._transport.write(data)

    def abandon(self) -> None:
        """The receiver no longer wants the response; nobody is told."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def keep(self) -> None:
        """Opened for a receiver that is gone: the next one may have it."""
        self._pool.give_back(self)

    def pause(self) -> None:
        if self._transport is not None and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def coordinator_silent(self) -> None:
        receiver = self._receiver
        if receiver is not None and receiver.on_silent():
            self.abandon()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.lost(self)
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if self._until_close and exc is None:
            receiver.on_end()
        else:
            receiver.on_lost(reused=self._used)

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:  # nobody asked: out of step, never to be used again
            self.close()
            return
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._failed = True
        if not self._in_body and self._head_bytes > self._pool.settings.response_header_bytes_max:
            self._failed = True
        if self._receiver is not receiver:
            return  # it let go while it was told
        if self._complete:
            self._release()
            receiver.on_end()
        elif self._failed:
            self._receiver = None
            self.abandon()
            receiver.on_invalid()
        else:
            receiver.on_flush()

    def _release(self) -> None:
        self._receiver = None
        self.resume()
        if self._keep and not self._failed and self.usable:
            self._used = True
            self._pool.give_back(self)
        else:
            self.close()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            self._failed = True  # a second response that nobody asked for

    def on_status(self, status: bytes) -> None:
        self._head.reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer
        head, lower = self._head, name.lower()
        if lower in _SPECIAL:
            if lower == b"content-length":
                head.length = int(value)
            elif lower == b"transfer-encoding":
                head.chunked = True
            elif lower == RETRY_ELSEWHERE:
                head.elsewhere, head.elsewhere_once = value.strip() == b"1", value.strip() == b"once"
            return
        if lower == b"content-type":
            head.is_event_stream = value.lower().startswith(MEDIA_TYPE)
        head.lines.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        receiver, status = self._receiver, self._parser.get_status_code()
        if receiver is None or self._complete:
            return
        if status < 200:
            return
        self._head.status = status
        self._in_body = True
        self._keep = self._parser.should_keep_alive()
        bodyless = receiver.bodyless or status in (204, 304)
        self._until_close = not (bodyless or self._head.chunked or self._head.length is not None)
        if bodyless:
            # The parser would wait for the body that a HEAD's Content-Length speaks of.
            self._complete = True
        receiver.on_head(self._head)

    def on_body(self, body: bytes) -> None:
        if self._complete:
            self._failed = True  # a body where there is none
        elif self._receiver is not None:
            self._receiver.on_body(body)

    def on_message_complete(self) -> None:
        if self._in_body:
            self._complete = True
        else:  # 100 or 103: the response is still to come
            self._head = ResponseHead()
