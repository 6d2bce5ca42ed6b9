"""Connections: opening, keeping, losing and reopening them, and what an error on one of them means.

A `Link` is one session that is reopened when it breaks. Nothing here cancels a statement: a cancelled synchronous
commit reports success and can be lost. A statement that takes too long loses its connection, and a caller that is
cancelled leaves its statement running to its end. Must not know: runs, events, or any query.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import asyncpg

from pointsman.kernel.errors import InvalidValue, PointsmanError, SchemaMissing, StoreRefused, StoreUnavailable
from pointsman.stores.postgres.server import ConnectError, Connection, Server

T = TypeVar("T")

BACKOFF_S = (0.01, 0.25)
RETRIES_MAX = 8
SYNC_WAIT_CANCELLED = "canceling wait for synchronous replication"
LOST_STATES = ("57P01", "57P02", "57P03", "25006", "53300", "57014", "XX000", "XX001", "XX002")
"""Errors after which a connection must not be used again, and the outcome of everything sent on it is unknown."""
CONTENTION_STATES = ("40001", "40P01")
RAW_CLASSES = ("23",)
"""Refusals that callers distinguish themselves: constraints."""
CANT_HOLD_CLASSES = ("22", "54")
"""Values that no column takes, and PostgreSQL's limits: a row or an index entry too large, JSON nested too deep."""
RULE_CLASSES = ("27", "44", "P0")
"""Refusals by rules that somebody added to the database: triggers, views with a check option."""


class Link:
    """One session, opened on demand and reopened after it broke. Calls on it are served one after another.

    Args:
        session: settings of the session in addition to the common ones.
        prepare: prepares a new connection before it is used (locks, LISTEN); it must not use the link.
        appends: remember its sessions for `resolve` when they are lost.
    """

    def __init__(
        self, server: Server, session: Mapping[str, str] | None = None, *,
        prepare: Callable[[Connection], Awaitable[None]] | None = None, codecs: bool = True, appends: bool = False,
    ) -> None:  # fmt: skip
        self._server = server
        self._session = session or {}
        self._prepare = prepare
        self._codecs = codecs
        self._appends = appends
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._name = ""
        self._generation = -1
        self._in_doubt = False
        """The server reported that a commit did not wait for its standby."""

    async def call(
        self, work: Callable[[Connection], Awaitable[T]], *, timeout_s: float | None = None, retry: bool = True
    ) -> T:
        """Do `work`, usually one statement; do it again if it lost a deadlock (`retry`).

        Raises:
            StoreUnavailable: the server was not reached, or not in time (a lock), or its answer was lost; then nothing
                is known about the statement.
            InvalidValue, SchemaMissing: the server refused it.
            asyncpg.PostgresError: other refusals, of the class 23.
        """
        self._server.check_open()
        call = _Call()
        task = asyncio.create_task(self._perform(work, call, retry))
        limit = self._server.settings.statement_timeout_s if timeout_s is None else timeout_s
        try:
            await asyncio.wait((task,), timeout=limit)
        except BaseException:
            self._leave(task, call)
            raise
        if task.done():
            return task.result()
        if call.has_started:
            self._drop()
        self._leave(task, call)
        raise StoreUnavailable(f"no answer from the database within {limit} s")

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._lock.locked():
            connection.terminate()
            return
        try:
            await connection.close(timeout=1.0)
        except ConnectError:
            connection.terminate()

    def abort(self) -> None:
        """Break the connection at once; everything under way on it fails."""
        self._drop()

    # -- inside ------------------------------------------------------------------------------------------------

    def _leave(self, task: asyncio.Task[Any], call: _Call) -> None:
        """Stop waiting for a call. If it was not sent yet, it never will be; if it was sent, it runs to its end."""
        if not call.has_started:
            task.cancel()
        task.add_done_callback(_forget)

    async def _perform(self, work: Callable[[Connection], Awaitable[T]], call: _Call, retry: bool) -> T:
        async with self._lock:
            attempt = 0
            while True:
                connection = await self._connected()
                call.has_started = True
                self._in_doubt = False
                try:
                    result = await work(connection)
                except Exception as error:
                    attempt += 1
                    if retry and attempt < RETRIES_MAX and getattr(error, "sqlstate", None) in CONTENTION_STATES:
                        await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))
                        continue
                    raise self._meaning(error) from error
                except BaseException:
                    self._drop()
                    raise
                if self._in_doubt:
                    self._drop()
                    raise StoreUnavailable("the commit did not wait for its standby: it may be lost in a failover")
                return result

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and not connection.is_closed() and self._generation == self._server.generation:
            return connection
        if connection is not None:
            self._drop(raise_generation=connection.is_closed())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._server.settings.unreachable_s
        backoff = BACKOFF_S[0]
        while True:
            self._server.check_open()
            generation = self._server.generation
            try:
                return await self._connect(generation)
            except ConnectError as error:
                if loop.time() + backoff > deadline or isinstance(error, HOPELESS):
                    raise self._server.unreachable(error) from error
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
            backoff = min(backoff * 2, BACKOFF_S[1])

    async def _connect(self, generation: int) -> Connection:
        connection, self._name = await self._server.connect(self._session, codecs=self._codecs)
        try:
            connection.add_log_listener(self._on_notice)
            if self._prepare is not None:
                await self._prepare(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection, self._generation = connection, generation
        return connection

    def _meaning(self, error: Exception) -> Exception:
        """The error to raise for an error of a statement; drop the connection if it can't be used again."""
        if isinstance(error, PointsmanError):
            return error
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            return InvalidValue(_text(error))  # refused by the client's own encoders, before it was sent
        if isinstance(error, UnicodeError):
            return InvalidValue(_text(error))
        state = getattr(error, "sqlstate", None)
        is_refusal = isinstance(error, asyncpg.PostgresError) and isinstance(state, str)
        if not is_refusal or state in LOST_STATES or str(state)[:2] == "08":
            self._drop()
            return StoreUnavailable(f"the connection to the database was lost: {_text(error)}")
        if state in ("42P01", "42703"):
            return SchemaMissing(f"{_text(error)}: the database lacks what this release needs; run `pointsman migrate`")
        if str(state)[:2] in CANT_HOLD_CLASSES:
            return InvalidValue(f"the database can't hold this: {_text(error)}")
        if str(state)[:2] in RULE_CLASSES:
            return StoreRefused(f"the database refused: {_text(error)}")
        if str(state)[:2] in RAW_CLASSES:
            return error
        return StoreUnavailable(f"the database refused: {_text(error)}")

    def _drop(self, *, raise_generation: bool = True) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._appends and self._lock.locked():
            with contextlib.suppress(asyncpg.InterfaceError):
                self._server.lost_sessions.add((connection.get_server_pid(), self._name))
        if raise_generation:
            self._server.generation += 1
        connection.terminate()

    def _on_notice(self, _: Any, message: Any) -> None:
        if SYNC_WAIT_CANCELLED in str(message):
            self._in_doubt = True


class Pool:
    """Several links; a call takes whichever is free."""

    def __init__(self, server: Server, size: int, session: Mapping[str, str] | None = None) -> None:
        self._links = [Link(server, session) for _ in range(size)]
        self._free: asyncio.LifoQueue[Link] = asyncio.LifoQueue()
        for link in self._links:
            self._free.put_nowait(link)

    async def call(self, work: Callable[[Connection], Awaitable[T]], *, retry: bool = True) -> T:
        """See `Link.call`."""
        link = await self._free.get()
        try:
            return await link.call(work, retry=retry)
        finally:
            self._free.put_nowait(link)

    async def warm_up(self) -> None:
        """Connect all links, so that no takeover has to wait for a connection."""
        await asyncio.gather(*(link.call(_nothing) for link in self._links))

    async def close(self) -> None:
        for link in self._links:
            await link.close()


class _Call:
    """Whether the work of a call has begun: until then it can be called off, afterwards it can't."""

    __slots__ = ("has_started",)

    def __init__(self) -> None:
        self.has_started = False


HOPELESS = (
    asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.exceptions.ClientConfigurationError,
)  # fmt: skip
"""No database, no access, or no valid DSN: a retry in a moment does not help."""


async def _nothing(connection: Connection) -> None:
    """Work that only needs a connection."""


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _text(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
