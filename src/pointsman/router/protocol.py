"""One client connection: requests one after another, each answered by the router itself or by an exchange.

Must not know how requests are parsed, placed or retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import cast

from pointsman.router import own_routes, problems
from pointsman.router.exchange import Exchange
from pointsman.router.problems import PROBLEM_JSON, Problem, response
from pointsman.router.reading import Request, RequestReader
from pointsman.router.state import RouterState

_CLOSE = b"Connection: close\r\n"
_KEEP = b"Connection: keep-alive\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    def __init__(self, router: RouterState) -> None:
        self._router = router
        self._reader = RequestReader(router.settings, router.held, router.clock)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._advancing = False
        self._reading_paused = False
        self._lingering = False
        self._deadline = math.inf  # idle, lingering, or unable to write: whichever it is in
        self._writing_paused = False

    @property
    def busy(self) -> bool:
        return self._request is not None

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        router = self._router
        over = len(router.clients) >= router.connections_max
        router.clients.add(self)
        self._deadline = router.clock() + router.settings.idle_timeout_s
        if over:
            self._respond(problems.TOO_MANY_CONNECTIONS, _CLOSE)
            self._lingering = True
            self._transport.close()
        elif router.stopping:  # accepted before the server was closed
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        self._router.clients.discard(self)
        exchange, request = self._exchange, self._request
        self._exchange = self._request = None
        self._reader.close()
        if request is not None:
            self._router.held.release(request)
        if exchange is not None:
            exchange.abandon()
        if self._router.on_client_gone is not None:
            self._router.on_client_gone()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        self._reader.feed(data)
        self._advance()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._deadline = self._router.clock() + self._router.settings.write_timeout_s
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._rest()
        if self._exchange is not None:
            self._exchange.resume()
        self._advance()

    # One request after another.

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        reader = self._reader
        while reader.done and self._request is None and not self._writing_paused and not self._lingering:
            self._serve(reader.done.popleft())
        self._advancing = False
        if self._transport is None or self._transport.is_closing():
            return
        if bool(reader.done) is not self._reading_paused:
            self._reading_paused = not self._reading_paused
            if self._reading_paused:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
        if self._request is None and reader.continue_owed:
            reader.continue_owed = False
            self._transport.write(_CONTINUE)

    def _serve(self, request: Request) -> None:
        self._request = request
        if request.refusal is not None:
            self._respond(request.refusal, _CLOSE)
            self._linger()
            return
        own = own_routes.answer(self._router, request)
        if own is None:
            self._exchange = Exchange(self._router, self, request)
            self._exchange.start()
            return
        if isinstance(own, Problem):
            self.fail(own)
            return
        connection = self.connection_header(request, must_close=False)
        head = request.method == b"HEAD"
        self._router.metrics.requests[own.status // 100] += 1
        self.write(response(own.status, own.media_type, own.body, connection=connection, head=head))
        self.finish()

    def _respond(self, problem: Problem, connection: bytes) -> None:
        metrics, request = self._router.metrics, self._request
        metrics.problems[problem.code] += 1
        metrics.requests[problem.status // 100] += 1
        given = None if request is None else request.named.get(b"pointsman-request-id")
        headers = problem.headers + b"Pointsman-Request-Id: %b\r\n" % (given or self._router.new_request_id())
        head = request is not None and request.method == b"HEAD"
        self.write(
            response(
                problem.status,
                PROBLEM_JSON,
                problem.body(),
                headers=headers,
                connection=connection,
                head=head,
            )
        )

    # What an exchange calls.

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def connection_header(self, request: Request, *, must_close: bool) -> bytes:
        request.closes = request.closes or must_close or self._router.stopping
        if request.closes:
            return _CLOSE
        return _KEEP if request.old else b""

    def fail(self, problem: Problem) -> None:
        request = self._request
        if request is not None:
            self._respond(problem, self.connection_header(request, must_close=False))
            self.finish()

    def finish(self) -> None:
        request, self._request, self._exchange = self._request, None, None
        if request is not None:
            self._router.held.release(request)
        if self._transport is None or request is None:
            return
        if request.closes:
            self._lingering = True
            self._deadline = self._router.clock() + self._router.settings.write_timeout_s
            self._transport.close()
            return
        self._rest()
        self._reader.restart_deadline()
        self._advance()

    def cut(self) -> None:
        """Closed without the end of the body, which is how a client can tell. HTTP/1.0 cannot, but from a
        reset."""
        request, self._request, self._exchange = self._request, None, None
        if request is not None:
            self._router.held.release(request)
        self._lingering = True
        if self._transport is None:
            return
        if request is not None and request.old:
            self._transport.abort()
        else:
            self._deadline = self._router.clock() + self._router.settings.write_timeout_s
            self._transport.close()

    # Time and the end.

    def _rest(self) -> None:
        if not self._writing_paused and not self._lingering:
            self._deadline = self._router.clock() + self._router.settings.idle_timeout_s

    def _linger(self) -> None:
        """A close while input is unread becomes a reset, which may take the response from the client."""
        self._lingering = True
        self._deadline = self._router.clock() + self._router.settings.linger_s
        if self._transport is not None and not self._transport.is_closing():
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def sweep(self, now: float) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._lingering or self._writing_paused:
            if now >= self._deadline:
                transport.abort()
        elif self._exchange is not None:
            self._exchange.sweep(now)
        elif now >= self._reader.deadline:
            self._reader.late()
            self._advance()
        elif self._reader.deadline == math.inf and now >= self._deadline:
            transport.close()

    def drain(self) -> None:
        """The router stops: what is under way is finished, nothing new is begun."""
        if self._exchange is not None:
            self._exchange.leave()
        elif not self.busy and self._transport is not None:
            self._lingering = True
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
