"""A lease that is held and renewed in a thread of its own: a busy event loop does not lose the incarnation, and a hung
one gives it up.

The thread has its own loop and its own connection. The session holds the incarnation's advisory lock, which a killed
process frees within milliseconds. The thread renews the lease only while the main loop shows that it runs. If the main
loop stops for too long, the thread dumps all stacks to stderr and ends the process, because nothing else could tell
where the loop hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from pointsman.kernel.errors import PointsmanError, StoreUnavailable
from pointsman.stores.postgres.clock import PostgresClock
from pointsman.stores.postgres.connection import Link
from pointsman.stores.postgres.registration import Registration, register
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.queries import load

MARGIN = 0.1
"""Share of the TTL that a holder does not rely on."""
RENEWALS_PER_TTL = 5
RETRY_S = 0.02
HUNG_EXIT_CODE = 70

logger = logging.getLogger("pointsman.lease")

_SQL = load(__package__, "liveness")


class PostgresLease:
    """See `ports/liveness.py`. Created by `hold`, in the main loop."""

    def __init__(self, server: Server, clock: PostgresClock, key: int, registration: Registration) -> None:
        self._server = server
        self._clock = clock
        self._key = key
        self._registration = registration
        self._ttl_s = registration.ttl_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._lost = asyncio.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {registration.name}", daemon=True)
        self._inner: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        """Of the thread's loop: set to renew now instead of at the next interval."""
        self._is_stopping = False
        self._ends_itself = False
        self._registered: asyncio.Future[int] = self._loop.create_future()
        self._incarnation = 0
        self._trusted_until = 0.0
        self._in_touch_since = 0.0
        self._in_touch_at = 0.0
        self._is_ended = False
        self._has_lock = False
        self._beat = time.monotonic()
        self._stalled_s = 0.0
        self.heartbeat: asyncio.Task[None] | None = None
        """The main loop's sign of life."""

    async def hold(self) -> None:
        """Register, and keep renewing.

        Raises:
            CoordinatorExists, SchemaMissing, StoreUnavailable.
        """
        self.heartbeat = asyncio.create_task(self._show_life(), name="heartbeat")
        self._thread.start()
        try:
            self._incarnation = await self._registered
        except BaseException:
            await self.let_go()
            raise

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def is_trusted(self) -> bool:
        return not self._is_ended and time.monotonic() < self._trusted_until

    async def lost(self) -> None:
        await self._lost.wait()

    async def release(self) -> None:
        self._ends_itself = True
        await self.let_go()

    async def let_go(self) -> None:
        """Stop renewing and free the lock, as the end of the process would; the row stays for others to judge."""
        self._is_stopping = True
        if self._inner is not None and self._wake is not None:
            with contextlib.suppress(RuntimeError):  # the thread's loop is closed: it is over
                self._inner.call_soon_threadsafe(self._wake.set)
        if self._thread.is_alive() or not self._over.is_set():
            await self._over.wait()
        if self.heartbeat is not None:
            self.heartbeat.cancel()
        self._is_ended = True
        self._lost.set()

    def in_touch_ms(self) -> int:
        """For how long the lease was renewed without a gap; a coordinator that is below a whole TTL judges nobody. A
        renewal is a commit, so a disk that hangs for everyone counts as a gap too.
        """
        if self._is_ended or time.monotonic() - self._in_touch_at > self._ttl_s / 2:
            return 0
        return int((self._in_touch_at - self._in_touch_since) * 1000)

    async def _show_life(self) -> None:
        tick_s = self._server.settings.loop_tick_ms / 1000
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(tick_s)

    # -- in the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._keep())
        finally:
            self._tell_main(self._over.set)

    async def _keep(self) -> None:
        self._wake = wake = asyncio.Event()
        self._inner = asyncio.get_running_loop()
        link = Link(self._server, prepare=self._take_lock_again, codecs=False)
        try:
            sent = time.monotonic()
            try:
                self._incarnation, now_ms = await register(link, self._server, self._key, self._registration)
            except Exception as error:  # noqa: BLE001  else whoever registers would wait for ever
                refusal = error
                self._tell_main(lambda: self._settle(lambda future: future.set_exception(refusal)))
                return
            self._has_lock = True
            self._renewed(now_ms, sent)
            self._tell_main(lambda: self._settle(lambda future: future.set_result(self._incarnation)))
            stall = asyncio.create_task(self._watch_main_loop())
            try:
                await self._renew_until_stopped(link, wake)
            finally:
                stall.cancel()
            if self._ends_itself:
                await self._end(link)
        finally:
            await link.close()

    async def _renew_until_stopped(self, link: Link, wake: asyncio.Event) -> None:
        pause = self._ttl_s / RENEWALS_PER_TTL
        wait = pause
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await wake.wait()
            wake.clear()
            if self._is_stopping:
                return
            if self._stalled_s > self._ttl_s / 2 or self._server.is_closed:
                wait = RETRY_S
                continue
            try:
                alive = await self._renew(link)
            except Exception as error:  # noqa: BLE001  else nobody would renew it any more, and nobody would know
                said = error if isinstance(error, PointsmanError) else f"{type(error).__name__}: {error}"
                logger.warning("incarnation %d: its lease was not renewed: %s", self._incarnation, said)
                wait = RETRY_S
                continue
            if not alive:
                self._is_ended = True
                self._tell_main(self._lost.set)
                return
            wait = pause if self._has_lock else RETRY_S

    async def _renew(self, link: Link) -> bool:
        """Renew the lease. Returns False if somebody ended the incarnation."""
        sent = time.monotonic()
        now_ms = await link.call(
            lambda connection: connection.fetchval(_SQL["renew"], self._incarnation), timeout_s=self._ttl_s / 2
        )
        if now_ms is None:
            return False
        self._renewed(now_ms, sent)
        if not self._has_lock:
            self._has_lock = await link.call(self._take_lock)
        return True

    def _renewed(self, now_ms: int, sent: float) -> None:
        received = time.monotonic()
        self._clock.measured(now_ms, sent, received)
        self._trusted_until = sent + self._ttl_s * (1 - MARGIN)
        if sent - self._in_touch_at > self._ttl_s / 2:
            self._in_touch_since = sent
        self._in_touch_at = received

    async def _take_lock(self, connection: Connection) -> bool:
        return bool(await connection.fetchval(_SQL["lock"], self._key, self._incarnation))

    async def _take_lock_again(self, connection: Connection) -> None:
        """Take the lock that was lost with the connection. A watcher or our own dying session may hold it for a moment;
        the renewal does not wait for it, because the lease is what counts.
        """
        connection.add_termination_listener(self._on_termination)
        if self._incarnation:
            self._has_lock = await self._take_lock(connection)

    def _on_termination(self, _connection: object) -> None:
        """Reconnect at once: watchers saw that the lock is free; it must be held again before they are sure."""
        if self._wake is not None:
            self._wake.set()

    async def _end(self, link: Link) -> None:
        try:
            await link.call(lambda connection: connection.execute(_SQL["end_incarnation"], self._incarnation))
        except StoreUnavailable:
            logger.warning("incarnation %d could not end itself: its lease will expire", self._incarnation)

    async def _watch_main_loop(self) -> None:
        """Judge the main loop only by time in which this thread ran too: after a SIGSTOP of the whole process the main
        loop gets its turn first.
        """
        settings = self._server.settings
        tick_s = settings.loop_tick_ms / 1000
        seen, last = self._beat, time.monotonic()
        while True:
            await asyncio.sleep(tick_s)
            now = time.monotonic()
            self._stalled_s = self._stalled_s + min(now - last, 2 * tick_s) if self._beat == seen else 0.0
            seen, last = self._beat, now
            if settings.loop_stall_exits and self._stalled_s * 1000 > settings.loop_stall_ms_max:
                _exit_hung(self._registration.name, self._stalled_s, _busy_with(self._loop))

    def _settle(self, how: Callable[[asyncio.Future[int]], None]) -> None:
        if not self._registered.done():
            how(self._registered)

    def _tell_main(self, what: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the main loop is closed: there is nobody to tell
            self._loop.call_soon_threadsafe(what)


def _busy_with(loop: asyncio.AbstractEventLoop) -> str:
    """What a hung loop is busy with: the name of its task tells which run or call."""
    task = asyncio.current_task(loop)
    return "no task: a callback, or the loop itself" if task is None else task.get_name()


def _exit_hung(name: str, seconds: float, busy_with: str) -> None:
    """Dump all stacks and end the process. Nothing is lost: a blocked loop drives no runs; others take them over."""
    print(  # noqa: T201 (logging may be what hangs)
        f"pointsman: coordinator {name}: the event loop has not run for {seconds:.1f} s: {busy_with} blocks it "
        "(an async agent that should be a plain function?). All stacks follow; the process exits, and its runs are "
        "taken over.",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    os._exit(HUNG_EXIT_CODE)
