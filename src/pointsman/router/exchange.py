"""One proxied request: which coordinator to try next, and how the response is passed on.

The law: until part of a response has been passed on, a request that may be sent twice is sent again. A request that may
not is sent again only if no coordinator can have seen it. What was passed on is never taken back.

A short response is passed on when it is complete, so that the death of a coordinator in its middle is retried too. An
event stream that breaks off continues at the next coordinator, after the last event that was passed on. Must not know
how requests are read, nor how connections are kept.
"""

from __future__ import annotations

import asyncio
import errno
import math

from pointsman.router import problems
from pointsman.router.following import LAST_EVENT_ID
from pointsman.router.membership import Member
from pointsman.router.passing import Client, Passing
from pointsman.router.placement import place
from pointsman.router.problems import Problem
from pointsman.router.reading import Request
from pointsman.router.state import RouterState
from pointsman.router.upstream import ResponseHead, UpstreamConnection

_OWN_SHORTAGE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""Failures to connect that say nothing about the coordinator."""


class Exchange:
    """One request, until the end of its response."""

    def __init__(self, router: RouterState, client: Client, request: Request) -> None:
        self._router = router
        self._client: Client | None = client
        self._request = request
        self._placement = placement = place(request, router.new_id)
        added = placement.added
        if b"pointsman-request-id" not in request.named:
            added += b"Pointsman-Request-Id: %b\r\n" % router.new_request_id()
        if router.settings.token is not None:
            # Who asks was checked here, under whatever name. A coordinator without a token answers to its own only.
            request.drop([b"host"])
            added += b"Host: localhost\r\n"
        self._added = added
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
        self._passing = Passing(router.settings, client, request, may_resume=placement.retryable)
        self._resumed_after = b""
        self._elsewhere = ""  # why what comes now is not passed on: draining or shed
        self._was_shed = False
        self._paused = False

    # Choosing and sending.

    def start(self) -> None:
        self._next()

    def _next(self) -> None:
        self._timer = None
        router, settings = self._router, self._router.settings
        now = router.clock()
        only = self._placement.only
        if only:
            member = router.membership.find(only.decode("latin-1"), self._tried, now)
        else:
            member = router.membership.pick(self._placement.key, self._tried, now)
        if member is not None:
            self._tried.append(member)
            self._send_to(member, fresh=not self._placement.retryable)
        elif only and not router.membership.knows(only.decode("latin-1")):
            self._fail(problems.OTHER_COORDINATOR)
        elif only or now - self._started_at >= settings.retry_for_s:
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
        if self._paused:
            connection.pause()

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
        if not self._passing.has_begun:
            self._passing.take_back()
        self._deadline = math.inf
        self._router.metrics.retries[reason] += 1
        self._next()

    # What the upstream connection tells.

    def on_head(self, head: ResponseHead) -> None:
        if self._client is None:
            return
        if head.status == 503:
            self._elsewhere = "draining" if head.elsewhere else "shed" if self._may_try_another(head) else ""
            if self._elsewhere:
                return
        if self._member is not None:
            self._router.membership.answered(self._member)  # also over a connection that was there before a refusal
        if self._passing.has_begun:
            self._go_on(head)
        elif self._passing.head(head):
            self._begun()

    def _begun(self) -> None:
        """The request is not needed again."""
        router = self._router
        if self._member is not None:
            router.metrics.answered(self._member.name, router.clock() - self._sent_at, self._passing.status)
        self._bytes = b""
        router.held.release(self._request)
        self._touch()

    def _go_on(self, head: ResponseHead) -> None:
        """The answer to an event stream's second request: its first head stands."""
        if head.status == 200 and head.is_event_stream:
            self._touch()
        else:
            self._let_go()
            self._break_off()  # the client asks again, and hears what is the matter

    def on_body(self, chunk: bytes) -> None:
        if not self._elsewhere:
            self._passing.body(chunk)

    def on_flush(self) -> None:
        if self._elsewhere:
            self._leave_elsewhere()
        elif self._client is not None and self._passing.flush():
            self._touch()

    def _touch(self) -> None:
        limit = self._router.settings.stream_idle_timeout_s
        self._deadline = math.inf if limit is None else self._router.clock() + limit

    def on_end(self) -> None:
        self._connection = None
        if self._client is None:
            return
        if self._elsewhere:
            self._leave_elsewhere()
            return
        if self._passing.is_held_back:
            self._passing.complete()
            self._begun()
        if not self._resume():
            self._client = None
            self._passing.end()

    def _resume(self) -> bool:
        """An event stream ended before its last event: another coordinator is asked for what comes after the one that
        was passed on last. False: it is none, or can't go on, or nothing ever comes of it."""
        following, router = self._passing.following, self._router
        if following is None or not following.can_resume or router.stopping:
            return False
        if following.last_id != self._resumed_after:
            self._resumed_after, self._breaks = following.last_id, 0
        self._breaks += 1
        if self._breaks >= router.settings.breaks_max:
            return False
        self._passing.flush()
        following.begin_again()
        added = self._added
        if following.last_id:
            self._request.drop([LAST_EVENT_ID])
            added += b"Last-Event-ID: %b\r\n" % following.last_id
        self._bytes = self._request.serialized(added)
        self._started_at = router.clock()
        self._tried = [] if self._member is None else [self._member]  # the others first
        self._again("resumed")
        return True

    def _leave_elsewhere(self) -> None:
        """It did nothing with the request and says so: any request may go on to the next."""
        reason, self._elsewhere = self._elsewhere, ""
        self._let_go()
        if self._member is not None and reason == "draining":
            self._router.membership.refused(self._member, self._router.clock())
        self._again(reason)

    def _may_try_another(self, head: ResponseHead) -> bool:
        """A coordinator that has too much to do did not start a run: one other is asked."""
        if not head.elsewhere_once:
            return False
        is_second, self._was_shed = self._was_shed, True
        return self._router.may_try_another(self._tried, is_second=is_second)

    def on_lost(self, *, reused: bool) -> None:
        client, self._connection = self._client, None
        if client is None:
            return
        if self._elsewhere:
            self._leave_elsewhere()
        elif self._passing.has_begun:
            if not self._resume():
                self._break_off()
        elif not self._placement.retryable or self._breaks + 1 >= self._router.settings.breaks_max:
            self._fail(problems.UPSTREAM_BROKEN)
        else:
            self._breaks += 1
            if reused and not self._passing.is_held_back and self._member is not None:
                self._deadline = math.inf
                self._router.metrics.retries["stale"] += 1
                self._send_to(self._member, fresh=True)
            else:
                self._again("broken")

    def on_invalid(self) -> None:
        self._connection = None
        if self._passing.has_begun:
            self._break_off()
        else:
            self._fail(problems.UPSTREAM_INVALID)

    def on_silent(self) -> bool:
        """What waits for a coordinator that fell silent goes on elsewhere. What must not be sent twice stays: it may
        still be answered."""
        if self._client is None or not (self._passing.has_begun or self._placement.retryable):
            return False
        self._let_go()
        if not self._passing.has_begun:
            self._again("silent")
        elif not self._resume():
            self._break_off()
        return True

    # What the client's side tells.

    def abandon(self) -> None:
        """Give up: the client no longer waits."""
        self._client = None
        self._bytes = b""
        self._let_go()

    def leave(self) -> None:
        """The router stops: a stream that goes on for ever ends here, and its client asks another router."""
        following = self._passing.following
        if self._client is not None and following is not None:
            self._request.closes = True
            self._let_go()
            if following.is_whole:
                self._client = None
                self._passing.end()
            else:
                self._break_off()

    def pause(self) -> None:
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def sweep(self, now: float) -> None:
        if now < self._deadline:
            return
        self._deadline = math.inf
        self._let_go()
        if self._passing.has_begun:
            self._break_off()
        else:
            self._fail(problems.UPSTREAM_TIMEOUT)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if self._timer is not None:
            self._timer.cancel()
        if connection is not None:
            connection.abandon()

    def _break_off(self) -> None:
        if self._client is not None:
            self._client = None
            self._passing.cut()

    def _fail(self, problem: Problem) -> None:
        if self._passing.has_begun:
            self._break_off()
            return
        client, self._client = self._client, None
        if client is not None:
            client.fail(problem)
