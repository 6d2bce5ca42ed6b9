"""Connections to agents: which addresses they may go to, and what it means that one fails.

The check is made where the socket is made, on the address itself. A name is resolved there and then, so what it
resolved to a moment ago (when its agent registered) does not count, and an address in numbers, which no resolver ever
sees, is checked all the same.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import SimpleNamespace
from urllib.parse import urlsplit

import aiohttp
from aiohappyeyeballs import AddrInfoType
from aiohttp.abc import AbstractResolver

from pointsman.agents.addresses import AddressRefused, AgentAddresses
from pointsman.agents.agent import AgentError
from pointsman.kernel.values import faithful

USER_AGENT = "pointsman"
IDLE_S = 4.0
"""A kept connection without a request is closed after so long: most servers close theirs after 5 s, and a request that
meets a closing connection is lost."""


class ForbiddenAddress(PermissionError):
    """A host is, or resolved to, an address that agents may not have."""


class Trip:
    """What became of one request on its way out."""

    __slots__ = ("is_answered", "is_connected", "is_reused")

    def __init__(self) -> None:
        self.is_connected = False
        self.is_reused = False
        self.is_answered = False


def open_session(addresses: AgentAddresses, *, keep: bool, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    """A session without a proxy, cookies, credentials of the environment, or a memory of names.

    It has no limit of connections: how many attempts are under way is the dispatcher's to say, and a request that
    waited here would be taken for one that its agent keeps waiting.

    Args:
        keep: keep connections for the next request.
    """
    connector = aiohttp.TCPConnector(
        limit=0, use_dns_cache=False, resolver=resolver, socket_factory=_checked(addresses),
        force_close=not keep, keepalive_timeout=IDLE_S if keep else None,
    )  # fmt: skip
    return aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
        headers={"User-Agent": USER_AGENT}, trace_configs=[_tracing()], timeout=aiohttp.ClientTimeout(total=None),
    )  # fmt: skip


def failure_of(error: Exception, url: str, trip: Trip) -> AgentError:
    """The failure that it is to get no whole response."""
    host = urlsplit(url).netloc  # the rest may hold secrets
    text = faithful(error) or type(error).__name__
    if isinstance(error, aiohttp.InvalidURL):
        return AgentError(f"{host}: no request can be sent to its URL", kind="unreachable", retryable=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        # Nobody but an operator can allow an address (or the operating system's firewall lift its rule).
        forbidden = isinstance(error.__cause__, PermissionError)
        said = faithful(error.__cause__) if forbidden else text
        return AgentError(f"{host}: {said}", kind="unreachable", retryable=False if forbidden else None)
    if isinstance(error, TimeoutError) and not trip.is_connected:
        return AgentError(f"{host}: no connection in time", kind="unreachable")
    if isinstance(error, TimeoutError):
        return AgentError(f"{host}: no result in time", kind="timeout")
    if isinstance(error, aiohttp.ClientResponseError):
        return AgentError(f"{host}: its response is not HTTP/1.1: {text}", kind="malformed_output")
    return AgentError(f"{host}: the connection broke: {text}", kind="connection_lost")


def _checked(addresses: AgentAddresses) -> Callable[[AddrInfoType], socket.socket]:
    def make(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        try:
            addresses.check_address(str(address[0]))
        except AddressRefused as error:
            raise ForbiddenAddress(errno.EACCES, str(error)) from error
        return socket.socket(family, kind, protocol)

    return make


def _tracing() -> aiohttp.TraceConfig:
    async def created(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
        context.trace_request_ctx.is_connected = True

    async def reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
        context.trace_request_ctx.is_connected = context.trace_request_ctx.is_reused = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(created)
    tracing.on_connection_reuseconn.append(reused)
    return tracing
