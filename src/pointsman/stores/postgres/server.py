"""The server: its address, how a session on it is set up, and which sessions were lost while they were in use."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from pointsman.kernel.errors import StoreUnavailable
from pointsman.stores.postgres.codecs import set_codecs
from pointsman.stores.postgres.settings import PostgresSettings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SESSION = {
    # With the defaults, a network partition is noticed after two hours or never.
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "3000",
    # Otherwise a killed client's statement and its locks stay until the statement ends.
    "client_connection_check_interval": "1000",
    "idle_in_transaction_session_timeout": "5000",
    "timezone": "UTC",
    "jit": "off",
}
ConnectError = (
    OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.exceptions.InternalClientError,
)  # fmt: skip
"""Errors that connecting may raise. The last: the server takes no writes, or does not speak PostgreSQL's protocol."""


class Server:
    """What all links of one store share: the address and the lost sessions."""

    def __init__(self, dsn: str, settings: PostgresSettings) -> None:
        self.settings = settings
        self.is_closed = False
        self.generation = 0
        """Increased whenever a connection is lost: all others then reconnect before they are used again."""
        self.lost_sessions: set[tuple[int, str]] = set()
        """(pid, name) of sessions on which an append may still be under way."""
        self._dsn = dsn
        self._unsupported: frozenset[str] = frozenset()

    @property
    def description(self) -> str:
        """The address without user and password."""
        try:
            parts = urlsplit(self._dsn)
            address = parts.netloc.rpartition("@")[2]
            return f"PostgreSQL at {address or 'the default address'}{parts.path or ''}"
        except ValueError:
            return "PostgreSQL"

    def check_open(self) -> None:
        if self.is_closed:
            raise StoreUnavailable("this store is closed")

    async def connect(self, session: Mapping[str, str], *, codecs: bool = True) -> tuple[Connection, str]:
        """Try once to connect. Returns the connection and the name of its session in the server.

        Raises:
            what asyncpg raises.
        """
        name = f"pointsman-{secrets.token_hex(6)}"
        wanted = {**SESSION, **session, "application_name": name}
        wanted = {key: value for key, value in wanted.items() if key not in self._unsupported}
        try:
            connection = await asyncpg.connect(
                self._dsn, timeout=self.settings.connect_timeout_s, server_settings=wanted,
                target_session_attrs=SessionAttribute.read_write,
            )  # fmt: skip
        except (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError):
            if self._unsupported:
                raise
            self._unsupported = frozenset({"client_connection_check_interval", "tcp_user_timeout"})
            return await self.connect(session, codecs=codecs)
        try:
            _keep_alive(connection)
            if codecs:
                async with asyncio.timeout(self.settings.connect_timeout_s):
                    await set_codecs(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection, name

    async def reach(self, session: Mapping[str, str] | None = None, *, codecs: bool = False) -> Connection:
        """Connect for a single purpose; the caller closes the connection. Raises StoreUnavailable."""
        try:
            connection, _ = await self.connect(session or {}, codecs=codecs)
        except ConnectError as error:
            raise self.unreachable(error) from error
        return connection

    def unreachable(self, error: Exception) -> StoreUnavailable:
        """The error to raise when connecting failed with `error`."""
        why = str(error).strip() or type(error).__name__
        if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
            why = "it takes no writes: it is a standby, or set to read only"
        advice = "check that it runs, and the URL of the store"
        return StoreUnavailable(f"{self.description} can't be reached: {why}; {advice}")


def _keep_alive(connection: Connection) -> None:
    """Set keepalive on the client's side: asyncpg does not set any on its socket."""
    transport = getattr(connection, "_transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options = (("TCP_KEEPIDLE", 2), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 3_000))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in options:
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
