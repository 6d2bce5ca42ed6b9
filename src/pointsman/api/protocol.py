"""One connection: Uvicorn's HTTP protocol with deadlines, which the sweeper (`connections.py`) enforces.

Uvicorn alone never closes a client that sends slowly (measured: headers or a body at 1 byte/s, or nothing at
all, are still open after 20 s). A connection is in one phase at a time, each with its deadline:

    idle      nothing of a request has come      idle_timeout_s
    headers   from a request's first byte on     headers_timeout_s
    body      from the end of its headers on     body_timeout_s
    handling  the whole request is here          none: the handler's own
    closing   refused or timed out               CLOSE_GRACE_S, then the connection is cut

and, in all phases, `write_timeout_s` for a client that takes nothing of what is sent to it. There is no timer per
request: a phase sets a number, and the sweeper checks it. Must not know routes or handlers.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from math import inf
from typing import TYPE_CHECKING

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pointsman.api import problems
from pointsman.api.errors import ApiError, BadRequest, HeadersTooLarge, RequestTimeout, TooManyConnections
from pointsman.api.waiting import STATE_KEY

if TYPE_CHECKING:
    from pointsman.api.connections import Connections

CLOSE_GRACE_S = 1.0
_HEADER_OVERHEAD_BYTES = 4  # colon, space, line end
_BODY_DRAIN_FACTOR = 4  # of an already answered request, so much of its body is read and dropped before the cut


class Phase(Enum):
    IDLE = auto()
    HEADERS = auto()
    BODY = auto()
    HANDLING = auto()
    CLOSING = auto()


class DeadlineProtocol(HttpToolsProtocol):
    """Uvicorn's protocol with deadlines."""

    def __init__(self, shared: Connections) -> None:
        super().__init__(shared.config, shared.state, {})
        self._shared = shared
        self._settings = shared.settings
        self._phase = Phase.IDLE
        self._deadline = inf
        self._write_deadline = inf
        self._header_bytes = 0
        self._dropped_bytes = 0
        self._refusal: ApiError | None = None
        self._running: RequestResponseCycle | None = None  # Uvicorn's `cycle` is the one that was read last

    # -- what the transport says -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._shared.all.add(self)
        self._shared.empty.clear()
        self._enter(Phase.IDLE, self._settings.idle_timeout_s)
        if len(self._shared.all) > self._settings.connections_max:
            self._turn_away()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._shared.all.discard(self)
        if not self._shared.all:
            self._shared.empty.set()
        self._phase = Phase.CLOSING
        self._abandon()

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.CLOSING:
            return
        if self._phase is Phase.IDLE:
            self._begin()
        if self._phase is Phase.HEADERS:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._phase is Phase.HEADERS and self._header_bytes > self._settings.header_bytes_max:
            self._refuse(HeadersTooLarge())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_deadline = self.loop.time() + self._settings.write_timeout_s

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_deadline = inf

    # -- what the parser says --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._phase is not Phase.HEADERS:  # a pipelined request, in the same piece as the one before it
            self._begin()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + _HEADER_OVERHEAD_BYTES for name, value in self.headers)
        if size > self._settings.header_bytes_max:
            self._refusal = HeadersTooLarge()
            raise self._refusal
        super().on_headers_complete()
        self._dropped_bytes = 0
        self._enter(Phase.BODY, self._settings.body_timeout_s)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.cycle.response_complete:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > _BODY_DRAIN_FACTOR * self._settings.body_bytes_max:
                self._close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.cycle.response_complete:
            self._enter(Phase.IDLE, self._settings.idle_timeout_s)
        else:
            self._enter(Phase.HANDLING, inf)

    def send_400_response(self, msg: str) -> None:
        """Answer what Uvicorn's parser refuses with a problem, like every other error."""
        self._refuse(self._refusal or BadRequest(msg))

    # -- what the response says ------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Like Uvicorn's, but without its keep-alive timer: the sweeper saves arming and disarming one per request."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._phase is Phase.HANDLING:
            self._enter(Phase.IDLE, self._settings.idle_timeout_s)
        # Else the client is still sending a body that nobody waits for, or its next request: that deadline
        # stands.

    # -- deadlines -------------------------------------------------------------------------------------------

    def expire(self, now: float, *, pardon_s: float = 0.0) -> None:
        """End what is past its deadline, after extending deadlines by `pardon_s`. Called by the sweeper."""
        self._deadline += pardon_s
        self._write_deadline += pardon_s
        if now >= self._write_deadline or (self._phase is Phase.CLOSING and now >= self._deadline):
            self.transport.abort()
        elif now < self._deadline:
            return
        elif self._is_waiting_for_us():
            self._deadline = now + self._settings.body_timeout_s
        elif self._phase is Phase.IDLE:
            self._close()
        else:
            self._refuse(RequestTimeout())

    def _is_waiting_for_us(self) -> bool:
        """Whether the client can't go on: we do not read, or it has sent part of its next request while we work on this
        one.
        """
        if self._phase is Phase.BODY:
            return self.flow.read_paused
        return self._phase is Phase.HEADERS and self._in_flight()

    def _in_flight(self) -> bool:
        return self._running is not None and not self._running.response_complete

    def _begin(self) -> None:
        self._header_bytes = 0
        self._enter(Phase.HEADERS, self._settings.headers_timeout_s)

    def _enter(self, phase: Phase, timeout_s: float) -> None:
        if self._phase is not Phase.CLOSING:
            self._phase = phase
            self._deadline = self.loop.time() + timeout_s

    def _refuse(self, error: ApiError) -> None:
        """Answer, unless an answer is already under way, and close. Closing while the client still sends would reset
        the connection and the client would lose the answer; so only our half is closed, and the rest is read and
        dropped.
        """
        answering = self._running is not None and self._in_flight() and self._running.response_started
        if self._phase is Phase.CLOSING or answering or self.transport.is_closing():
            self._close()
            return
        self._enter(Phase.CLOSING, CLOSE_GRACE_S)
        self._abandon()
        self.transport.write(problems.http_response(error))
        self.flow.resume_reading()
        self.transport.write_eof()

    def _turn_away(self) -> None:
        """Close a connection that is one too many. Those that are closing do not count; but above twice the limit in
        all, it is closed without an answer.
        """
        connections = self._shared.all
        if len(connections) > 2 * self._settings.connections_max:
            self._close()
        elif sum(other._phase is not Phase.CLOSING for other in connections) > self._settings.connections_max:
            self._refuse(TooManyConnections())

    def _close(self) -> None:
        self._enter(Phase.CLOSING, CLOSE_GRACE_S)
        self._abandon()
        self.transport.close()

    def _abandon(self) -> None:
        """Cancel the work on an answer that nobody waits for any more, and drop the requests that are queued."""
        self.pipeline.clear()
        if self._running is None or not self._in_flight():
            return
        self._running.disconnected = True
        self._running.message_event.set()
        state = self._running.scope["state"]
        state["gone"] = True
        waiter: asyncio.Task[object] | None = state.get(STATE_KEY)
        if waiter is not None:
            waiter.cancel()
