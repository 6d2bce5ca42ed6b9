"""One proxied request: which coordinator is tried next, and the passing on of the response.

The law: as long as nothing of a response was passed on, a request that may be sent twice is; a request that
may not is sent again only if no coordinator can have seen it. What was passed on is never taken back.
A short response is passed on when it is complete, so that a coordinator's death in its middle is retried too.
Must not know how requests are read nor how connections are kept.
"""

from __future__ import annotations

import asyncio
import errno
import math
from typing import Protocol

from pointsman.router import problems
from pointsman.router.membership import Member
from pointsman.router.placement import place
from pointsman.router.problems import Problem
from pointsman.router.reading import Request
from pointsman.router.state import RouterState
from pointsman.router.upstream import ResponseHead, UpstreamConnection

_OWN_SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Failures to connect that say nothing about the coordinator."""


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


class Exchange:
    """From a request to the end of its response."""

    def __init__(self, router: RouterState, client: Client, request: Request) -> None:
        self._router = router
        self._client: Client | None = client
        self._request = request
        self._placement = placement = place(request, router.new_id)
        added = placement.added
        if b"pointsman-request-id" not in request.named:
            added += b"Pointsman-Request-Id: %b\r\n" % router.new_request_id()
        self._bytes = request.serialized(added)
        request.body = b""  # held once, not twice
        self.bodyless = request.method == b"HEAD"
        self._member: Member | None = None
        self._tried: list[Member] = []
        self._breaks = 0
        self._connection: UpstreamConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = self._sent_at = router.clock()
        self._deadline = math.inf
        self._passed = False
        self._held_back: ResponseHead | None = None
        self._elsewhere = False
        self._chunked = False
        self._out: list[bytes] = []

    # Choosing and sending.

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        self._timer = None
        router, settings = self._router, self._router.settings
        now = router.clock()
        member = router.membership.pick(self._placement.key, self._tried, now)
        if member is not None:
            self._tried.append(member)
            self._send_to(member, fresh=not self._placement.retryable)
        elif now - self._started_at >= settings.retry_for_s:
            self._fail(problems.NO_COORDINATOR)
        else:
            self._tried.clear()
            self._timer = asyncio.get_running_loop().call_later(settings.backoff_s, self._next)

    def _send_to(self, member: Member, *, fresh: bool) -> None:
        """A pooled connection may have just been closed at the other end: what must not be sent twice gets a
        fresh one."""
        self._member = member
        connection = None if fresh else self._router.upstreams.pool(member.address).take()
        if connection is None:
            self._router.upstreams.connect(member.address, self)
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        self._sent_at = self._router.clock()
        self._deadline = self._sent_at + self._router.settings.response_timeout_s
        connection.send(self, self._bytes)

    def on_connected(self, connection: UpstreamConnection) -> None:
        if self._member is not None:
            self._router.membership.answered(self._member)
        if self._client is None:
            connection.keep()
        else:
            self._send(connection)

    def on_connect_failed(self, error: OSError) -> None:
        if self._member is not None and error.errno not in _OWN_SHORTAGE:
            self._router.membership.refused(self._member, self._router.clock())
        if self._client is not None:
            self._again("refused")

    def _again(self, reason: str) -> None:
        self._connection = None
        self._take_back()
        self._deadline = math.inf
        self._router.metrics.retries[reason] += 1
        self._next()

    # What the upstream connection tells.

    def on_head(self, head: ResponseHead) -> None:
        if self._client is None:
            return
        if head.status == 503 and head.elsewhere:
            self._elsewhere = True
            return
        short = head.length is not None and head.length <= self._router.settings.held_response_bytes_max
        if short and not head.chunked:
            self._held_back = head
        else:
            self._begin(head)

    def _begin(self, head: ResponseHead) -> None:
        """From here on the response cannot be taken back."""
        client, router, member = self._client, self._router, self._member
        if client is None or member is None:
            return
        router.metrics.answered(member.name, router.clock() - self._sent_at, head.status)
        bodyless = self.bodyless or head.status in (204, 304)
        framing, must_close = b"", False
        if head.length is not None and not head.chunked and head.status != 204:
            framing = b"Content-Length: %d\r\n" % head.length
        elif not bodyless:
            self._chunked = not self._request.old
            must_close = self._request.old
            framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        self._out.insert(
            0,
            b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
                head.status, head.reason, b"".join(head.lines), framing,
                client.connection_header(self._request, must_close=must_close),
            ),
        )  # fmt: skip
        self._passed = True
        self._bytes = b""
        router.held.release(self._request)
        self._touch()

    def _take_back(self) -> None:
        """What came of a response that was held back counts for nothing."""
        self._held_back = None
        self._out.clear()

    def on_body(self, chunk: bytes) -> None:
        if self._elsewhere:
            return
        if self._chunked:
            self._out += (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        else:
            self._out.append(chunk)

    def on_flush(self) -> None:
        if self._held_back is not None:
            return
        if self._out and self._client is not None:
            data = b"".join(self._out)
            self._out.clear()
            self._touch()
            self._client.write(data)
        elif self._elsewhere:
            self._leave_draining()

    def _touch(self) -> None:
        limit = self._router.settings.stream_idle_timeout_s
        self._deadline = math.inf if limit is None else self._router.clock() + limit

    def on_end(self) -> None:
        self._connection = None
        client = self._client
        if client is None:
            return
        if self._elsewhere:
            self._leave_draining()
            return
        if self._held_back is not None:
            self._begin(self._held_back)
        if self._chunked:
            self._out.append(b"0\r\n\r\n")
        self._client = None
        if self._out:
            client.write(b"".join(self._out))
        client.finish()

    def _leave_draining(self) -> None:
        """It did nothing with the request and says so: any request may go on to the next."""
        self._elsewhere = False
        self._let_go()
        if self._member is not None:
            self._router.membership.refused(self._member, self._router.clock())
        self._again("draining")

    def on_lost(self, *, reused: bool) -> None:
        client, self._connection = self._client, None
        if client is None:
            return
        if self._passed:
            self._break_off()
        elif self._elsewhere:
            self._leave_draining()
        elif not self._placement.retryable or self._breaks + 1 >= self._router.settings.breaks_max:
            self._fail(problems.UPSTREAM_BROKEN)
        else:
            self._breaks += 1
            if reused and self._held_back is None and self._member is not None:
                self._deadline = math.inf
                self._router.metrics.retries["stale"] += 1
                self._send_to(self._member, fresh=True)
            else:
                self._again("broken")

    def on_invalid(self) -> None:
        self._connection = None
        if self._passed:
            self._break_off()
        else:
            self._fail(problems.UPSTREAM_INVALID)

    def on_silent(self) -> bool:
        """What waits for a coordinator that fell silent goes on elsewhere; a broken-off stream is resumed by
        its client. What must not be sent twice stays: it may still be answered."""
        if self._client is None or not (self._passed or self._placement.retryable):
            return False
        self._let_go()
        if self._passed:
            self._break_off()
        else:
            self._again("silent")
        return True

    # What the client's side tells.

    def abandon(self) -> None:
        """Nobody waits any more."""
        self._client = None
        self._bytes = b""
        if self._timer is not None:
            self._timer.cancel()
        self._let_go()

    def pause(self) -> None:
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        if self._connection is not None:
            self._connection.resume()

    def sweep(self, now: float) -> None:
        if now < self._deadline:
            return
        self._deadline = math.inf
        self._let_go()
        if self._passed:
            self._break_off()
        else:
            self._fail(problems.UPSTREAM_TIMEOUT)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _break_off(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            if self._out:
                client.write(b"".join(self._out))
            client.cut()

    def _fail(self, problem: Problem) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.fail(problem)
