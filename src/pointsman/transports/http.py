"""Agents behind HTTP: one attempt is one POST of the call's recorded input, its response the result or a named failure.

The protocol is in `docs/howto/http-agents.md`. A URL is asked and nothing else: no redirect, no proxy, no cookie, and
no address that agents may not have, whatever a name resolves to today.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

from pointsman.agents.addresses import AddressRefused, AgentAddresses
from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.kernel.values import VALUE_BYTES_MAX
from pointsman.transports.http_answers import PROBLEM_BYTES_MAX, failure_of, read_outcome, read_result, report_spending
from pointsman.transports.http_connections import Trip, open_session
from pointsman.transports.http_connections import failure_of as lost
from pointsman.transports.http_headers import request_headers

CONNECT_TIMEOUT_S = 5.0
Answer = tuple[int, Mapping[str, str], bytes | None]
"""Status, headers, and the body: None when it is over its limit."""


class HttpTransport:
    """Implements `agents.transport.Transport` for agents that have a URL.

    Args:
        addresses: where agents may be.
        callback: base URL of the cluster's API, for what agents record while they are at it; None: they can't.
        token: what agents want to hear as `Authorization: Bearer`; all of them the same, so never the API's own.
        bytes_max: of one result, in bytes of JSON.
        connect_timeout_s: until the connection stands, TLS and name included.
        resolver: of host names; None: the operating system's.
    """

    def __init__(
        self,
        addresses: AgentAddresses,
        *,
        callback: str | None = None,
        token: str | None = None,
        bytes_max: int = VALUE_BYTES_MAX,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._addresses = addresses
        self._callback = callback
        self._token = token
        self._bytes_max = bytes_max
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout_s)
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        url = agent.described.url
        if url is None:
            raise TypeError(f"agent {agent.name} has no URL")
        self._check(url)
        status, headers, body = await self._ask(url, context, data, again=agent.described.idempotent)
        report_spending(headers, context)
        if not 200 <= status < 300:
            raise failure_of(status, headers, body or b"")
        if body is None:
            raise AgentError(f"the result is over {self._bytes_max} bytes", kind="output_too_large")
        return read_result(read_outcome(body, headers, context), agent.signature, bytes_max=self._bytes_max)

    async def probe(self, url: str, timeout: float) -> None:
        """A health check: any 2xx within `timeout` seconds is well.

        Raises:
            AgentError: what there is instead, `unreachable`, `timeout`, or the kind of its status.
        """
        self._check(url)
        trip = Trip()
        try:
            async with asyncio.timeout(timeout), self._request("GET", url, trip, {}, None) as response:
                status, headers = response.status, response.headers
        except (aiohttp.ClientError, OSError) as error:
            raise lost(error, url, trip) from error
        if not 200 <= status < 300:
            raise failure_of(status, headers, b"")

    async def _ask(self, url: str, context: Context, data: bytes, *, again: bool) -> Answer:
        """The response. A kept connection may be closed at the other end just when a request is sent on it: then it is
        sent once more on a new one, as the same attempt. What must not be sent twice gets a new one from the start."""
        trip = Trip()
        try:
            async with asyncio.timeout(context.deadline - time.monotonic()):
                try:
                    return await self._post(url, context, data, trip, keep=again)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                    if not trip.is_reused or trip.is_answered:
                        raise
                    trip = Trip()
                    return await self._post(url, context, data, trip, keep=False)
        except (aiohttp.ClientError, OSError) as error:
            raise lost(error, url, trip) from error

    async def _post(self, url: str, context: Context, data: bytes, trip: Trip, *, keep: bool) -> Answer:
        left_ms = max(round((context.deadline - time.monotonic()) * 1000), 0)
        headers = request_headers(context, left_ms=left_ms, callback=self._callback, token=self._token)
        async with self._request("POST", url, trip, headers, data, keep=keep) as response:
            trip.is_answered = True
            is_result = 200 <= response.status < 300
            limit = self._bytes_max if is_result else PROBLEM_BYTES_MAX
            return response.status, response.headers, await _read(response, limit)

    def _request(
        self, method: str, url: str, trip: Trip, headers: Mapping[str, str], data: bytes | None, *, keep: bool = False
    ) -> aiohttp.client._RequestContextManager:
        session = self._sessions.get(keep)
        if session is None:
            session = self._sessions[keep] = open_session(self._addresses, keep=keep, resolver=self._resolver)
        return session.request(
            method, url, headers=headers, data=None if data is None else io.BytesIO(data), allow_redirects=False,
            timeout=self._timeout, trace_request_ctx=trip,
        )  # fmt: skip

    def _check(self, url: str) -> None:
        """Raises AgentError: agents may not be there."""
        try:
            self._addresses.check_url(url)
        except AddressRefused as error:
            raise AgentError(str(error), kind="unreachable", retryable=False) from error


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body as it came, counted as it comes; None: it is over the limit, whatever its length was said to be."""
    if response.content_length is not None and response.content_length > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
