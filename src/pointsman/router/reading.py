"""Bytes of a client into requests: what is refused is refused here, with limits and deadlines.

Must not know sockets, coordinators or what a request is for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import httptools

from pointsman.router import problems
from pointsman.router.problems import Problem
from pointsman.router.settings import RouterSettings

HOP_BY_HOP = frozenset(
    (
        b"connection", b"http2-settings", b"keep-alive", b"proxy-authorization", b"proxy-connection", b"te",
        b"trailer", b"transfer-encoding", b"upgrade",
    )
)  # fmt: skip
_NAMED = frozenset(
    (
        b"authorization", b"host", b"idempotency-key", b"origin", b"pointsman-coordinator", b"pointsman-run-id",
        b"pointsman-tenant", b"pointsman-request-id",
    )
)  # fmt: skip
_SPECIAL = HOP_BY_HOP | _NAMED | {b"content-length", b"expect"}
_CHUNK_OVERHEAD = 8
"""Bytes on the wire for one of a chunked body: `1\r\nx\r\n` takes 6. More is chunk extensions or trailers."""


class HeldBodies:
    """Bytes of bodies in memory, of all clients together."""

    __slots__ = ("bytes", "bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self.bytes_max = bytes_max

    def take(self, request: Request, size: int) -> bool:
        """False: that would be too many."""
        if self.bytes + size > self.bytes_max:
            return False
        self.bytes += size
        request.held_bytes += size
        return True

    def release(self, request: Request) -> None:
        self.bytes -= request.held_bytes
        request.held_bytes = 0
        request.body = b""


class Request:
    """One request, complete. `lines` are its header lines as they came, without hop-by-hop ones;
    `named` those that the router looks at, in lower case. With a `refusal` nothing else counts."""

    __slots__ = ("body", "closes", "held_bytes", "lines", "method", "named", "old", "path", "refusal", "target")

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.path = b""
        self.lines: list[bytes] = []
        self.named: dict[bytes, bytes] = {}
        self.body = b""
        self.held_bytes = 0
        self.old = False  # HTTP/1.0: no chunked response, closes unless asked
        self.closes = False
        self.refusal: Problem | None = None

    def drop(self, names: list[bytes]) -> None:
        """Do not pass on the headers of these names (lower case)."""
        starts = tuple(name + b": " for name in names)
        self.lines = [line for line in self.lines if not line.lower().startswith(starts)]
        for name in names:
            self.named.pop(name, None)

    def serialized(self, added: bytes) -> bytes:
        """As it is sent on: one framing, whatever the client used."""
        length = b""
        if self.body or self.method in (b"POST", b"PUT", b"PATCH"):
            length = b"Content-Length: %d\r\n" % len(self.body)
        return b"%b %b HTTP/1.1\r\n%b%b%b\r\n%b" % (
            self.method, self.target, b"".join(self.lines), length, added, self.body,
        )  # fmt: skip


class RequestReader:
    """Feed it; take complete requests from `done`. `deadline` is when what it is in the middle of is late."""

    def __init__(self, settings: RouterSettings, held: HeldBodies, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._held = held
        self._clock = clock
        self._parser = httptools.HttpRequestParser(self)
        self.done: deque[Request] = deque()
        self.deadline = math.inf
        self.continue_owed = False
        self.deaf = False  # nothing that comes after is a request
        self.in_body = False
        self._request = Request()
        self._reset()

    def _reset(self) -> None:
        self.deadline = math.inf
        self.in_body = False
        self.continue_owed = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._body_bytes = 0
        self._content_length = 0
        self._chunks: list[bytes] = []
        self._dropped: list[bytes] = []
        self._expect: bytes | None = None

    def feed(self, data: bytes) -> None:
        settings = self._settings
        while data and not self.deaf:
            piece, data = data, b""
            if not self.in_body:  # the parser keeps an unfinished header line, however long
                room = settings.header_bytes_max - self._raw_bytes
                if room <= 0:
                    self.refuse(problems.HEADERS_TOO_LARGE)
                    return
                piece, data = piece[:room], piece[room:]
            self._raw_bytes += len(piece)
            self._parse(piece)
            if self._raw_bytes > settings.header_bytes_max + _CHUNK_OVERHEAD * settings.body_bytes_max + 1_024:
                self.refuse(problems.BODY_TOO_LARGE)

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.refuse(problems.NOT_IMPLEMENTED)
        except httptools.HttpParserError:
            self.refuse(problems.BAD_REQUEST)

    def refuse(self, problem: Problem) -> None:
        if self.deaf:
            return
        self._held.release(self._request)
        self._request.refusal = problem
        self._request.closes = True
        self._finish()
        self.deaf = True

    def restart_deadline(self) -> None:
        """What came in while another request was served did not have its time yet."""
        if self.deadline != math.inf:
            self._start_deadline()

    def close(self) -> None:
        """The client is gone: what it sent is held no longer."""
        self.deaf = True
        for request in (*self.done, self._request):
            self._held.release(request)

    def _start_deadline(self) -> None:
        settings = self._settings
        limit = settings.body_timeout_s if self.in_body else settings.headers_timeout_s
        self.deadline = self._clock() + limit

    def late(self) -> None:
        self.refuse(problems.BODY_TIMEOUT if self.in_body else problems.HEADERS_TIMEOUT)

    def _finish(self) -> None:
        self.done.append(self._request)
        self._request = Request()
        self._reset()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._start_deadline()

    def on_url(self, url: bytes) -> None:
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body or self.deaf:
            return  # a trailer: dropped, as any proxy may
        self._head_bytes += len(name) + len(value) + 4
        lower = name.lower()
        if lower in _SPECIAL and not self._take(lower, value):
            return
        self._request.lines.append(b"%b: %b\r\n" % (name, value))

    def _take(self, lower: bytes, value: bytes) -> bool:
        """Note a header that means something to the router. True if it is also passed on."""
        if lower in _NAMED:
            if lower == b"host" and lower in self._request.named:
                self.refuse(problems.BAD_REQUEST)
            self._request.named.setdefault(lower, value)
            return True
        if lower == b"content-length":
            self._content_length = int(value)
        elif lower == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                self.refuse(problems.NOT_IMPLEMENTED)
            elif self._parser.get_http_version() != "1.1":
                self.refuse(problems.BAD_REQUEST)  # readers disagree about what it means there
        elif lower == b"expect":
            self._expect = value.strip().lower()
        elif lower == b"connection":
            tokens = [token.strip().lower() for token in value.split(b",")]
            self._dropped += [t for t in tokens if t not in (b"close", b"keep-alive", b"upgrade", b"")]
        return False

    def on_headers_complete(self) -> None:
        if self.deaf:
            return
        request, parser, settings = self._request, self._parser, self._settings
        version = parser.get_http_version()
        request.method = parser.get_method()
        request.closes = not parser.should_keep_alive()
        request.old = version == "1.0"
        if self._head_bytes + len(request.target) > settings.header_bytes_max:
            self.refuse(problems.HEADERS_TOO_LARGE)
        elif version not in ("1.1", "1.0"):
            self.refuse(problems.HTTP_VERSION)
        elif parser.should_upgrade() or request.method == b"CONNECT":
            self.refuse(problems.NOT_IMPLEMENTED)
        elif (not request.old and b"host" not in request.named) or not self._read_target():
            self.refuse(problems.BAD_REQUEST)
        elif self._content_length > settings.body_bytes_max:
            self.refuse(problems.BODY_TOO_LARGE)
        elif self._expect is not None and not self._read_expect():
            self.refuse(problems.EXPECTATION_FAILED)
        else:
            if self._dropped:
                request.drop(self._dropped)
            self.in_body = True
            self._start_deadline()

    def _read_target(self) -> bool:
        """The path, and the target in origin form."""
        request = self._request
        if not request.target.startswith(b"/"):
            if request.target == b"*":
                request.path = b"*"
                return request.method == b"OPTIONS"
            try:
                url = httptools.parse_url(request.target)
            except httptools.HttpParserInvalidURLError:
                return False
            request.target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
        request.path = request.target.partition(b"?")[0].partition(b"#")[0]
        return True

    def _read_expect(self) -> bool:
        if self._expect != b"100-continue":
            return False
        self.continue_owed = not self._request.old
        return True

    def on_body(self, body: bytes) -> None:
        if self.deaf:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._settings.body_bytes_max:
            self.refuse(problems.BODY_TOO_LARGE)
            return
        if not self._held.take(self._request, len(body)):
            self.refuse(problems.TOO_MANY_BODIES)
            return
        self.continue_owed = False
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        if self.deaf:
            return
        chunks, request = self._chunks, self._request
        request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._finish()
        self.deaf = request.closes
