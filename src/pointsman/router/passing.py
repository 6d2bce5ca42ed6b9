"""A response on its way from a coordinator to the client.

A short one is held back until it is complete, and can be taken back until then. From the moment on at which it has
begun it can't. Must not know coordinators, nor what happens when one breaks off.
"""

from __future__ import annotations

from typing import Protocol

from pointsman.router.following import Following
from pointsman.router.problems import Problem
from pointsman.router.reading import Request
from pointsman.router.settings import RouterSettings
from pointsman.router.upstream import ResponseHead


class Client(Protocol):
    """Whom the response is for."""

    def write(self, data: bytes) -> None: ...
    def connection_header(self, request: Request, *, must_close: bool) -> bytes: ...
    def finish(self) -> None:
        """The response is complete."""

    def fail(self, problem: Problem) -> None:
        """Instead of a response."""

    def cut(self) -> None:
        """The response breaks off."""


class Passing:
    """One response.

    Args:
        may_resume: what is asked for may be asked for again, so an event stream may go on elsewhere.

    Attributes:
        status: of the response, once it has begun; 0 before.
        following: how far an event stream has come; None for any other response.
    """

    __slots__ = ("_chunked", "_client", "_held_back", "_may_resume", "_out", "_request", "_settings", "following",
                 "status")  # fmt: skip

    def __init__(self, settings: RouterSettings, client: Client, request: Request, *, may_resume: bool) -> None:
        self._settings = settings
        self._client = client
        self._request = request
        self._may_resume = may_resume
        self._held_back: ResponseHead | None = None
        self._chunked = False
        self._out: list[bytes] = []
        self.status = 0
        self.following: Following | None = None

    @property
    def has_begun(self) -> bool:
        return self.status != 0

    @property
    def is_held_back(self) -> bool:
        return self._held_back is not None

    def head(self, head: ResponseHead) -> bool:
        """Whether it has begun; else it is held back."""
        short = head.length is not None and head.length <= self._settings.held_response_bytes_max
        if short and not head.chunked:
            self._held_back = head
        else:
            self._begin(head)
        return self.has_begun

    def _begin(self, head: ResponseHead) -> None:
        """From here on the response cannot be taken back."""
        request = self._request
        bodyless = request.method == b"HEAD" or head.status in (204, 304)
        framing, must_close = b"", False
        if head.length is not None and not head.chunked and head.status != 204:
            framing = b"Content-Length: %d\r\n" % head.length
        elif not bodyless:
            self._chunked = not request.old
            must_close = request.old
            framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        if self._chunked and self._may_resume and head.is_event_stream and head.status == 200:
            self.following = Following(self._settings.held_response_bytes_max)
        connection = self._client.connection_header(request, must_close=must_close)
        self._out.insert(
            0,
            b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (head.status, head.reason, b"".join(head.lines), framing, connection),
        )
        self.status = head.status

    def take_back(self) -> None:
        """What came of a response that was held back counts for nothing."""
        self._held_back = None
        self._out.clear()

    def body(self, chunk: bytes) -> None:
        if self.following is not None:
            chunk = self.following.feed(chunk)
        if self._chunked and chunk:
            self._out += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        else:
            self._out.append(chunk)

    def flush(self) -> bool:
        """Pass on what there is. False: nothing."""
        if self._held_back is not None or not self._out:
            return False
        data = b"".join(self._out)
        self._out.clear()
        if data:
            self._client.write(data)
        return bool(data)

    def complete(self) -> None:
        """All of it is here; nothing is held back any more."""
        held, self._held_back = self._held_back, None
        if held is not None:
            self._begin(held)

    def end(self) -> None:
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self.flush()
        self._client.finish()

    def cut(self) -> None:
        """It breaks off: the client can tell, for the end is missing."""
        self.flush()
        self._client.cut()
