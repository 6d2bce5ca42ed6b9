"""The cluster's API, as a service of agents uses it: requests that are safe to repeat, repeated until answered.

Must not know what is asked, nor agents.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec

from pointsman.kernel.errors import PointsmanError, RunEnded, StoreUnavailable, UnknownRun
from pointsman.kernel.values import faithful
from pointsman.ports.agents import AgentNotFound, AttemptOver

REQUEST_TIMEOUT_S = 10.0
DIRECT_CONNECT_S = 2.0
"""So long to connect to a coordinator past `url`. There may be no way: packets then vanish, and the way by a router
that is about to hear of the coordinator is to be tried again soon."""
BACKOFF_S, BACKOFF_S_MAX = 0.1, 2.0
REPLY_BYTES_MAX = 64_000_000
"""A guard against what is no answer: of calls, a coordinator hands over about 1 MB at once, or one that is larger."""
COORDINATOR_HEADER = "Pointsman-Coordinator"
MISDIRECTED = 421

logger = logging.getLogger("pointsman.serving")


class ClusterRefused(PointsmanError):
    """The cluster refused a request; the detail is its reason."""

    code = "cluster_refused"

    def __init__(self, message: str | None = None, *, http_status: int = 0) -> None:
        """`http_status`: of its answer."""
        super().__init__(message)
        self.http_status = http_status


class EffectMissing(PointsmanError):
    """Nothing is recorded under this name."""

    code = "effect_not_found"


class Coordinator:
    """One of the cluster's coordinators. `is_direct`: the cluster's URL is no way to it, so it is asked itself."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_direct = False


_KNOWN: dict[str, type[PointsmanError]] = {
    error.code: error for error in (AgentNotFound, AttemptOver, EffectMissing, RunEnded, UnknownRun)
}


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


class Cluster:
    """Args:
    url: base URL of a router or coordinator.
    token: for `Authorization: Bearer`.
    reply_bytes_max: of one answer; a larger one is none.
    """

    def __init__(self, url: str, *, token: str | None = None, reply_bytes_max: int = REPLY_BYTES_MAX) -> None:
        self.url = url.rstrip("/")
        self._reply_bytes_max = reply_bytes_max
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def ask(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, str] | None = None, until: float
    ) -> bytes:
        """The body of a 2xx. No connection, no answer and every 5xx (a router's, when a coordinator died with the
        request in its hands) are tried again; so is the request that may have been done already, wherefore only such
        may be asked that are done once however often they come.

        Args:
            body: sent as JSON (bytes: as they are). until: `time.monotonic()` seconds, when it is given up.

        Raises:
            StoreUnavailable: not answered in time, or by too much. ClusterRefused, or the error that the cluster named.
        """
        data = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        wait = BACKOFF_S
        while True:
            trouble = ""
            try:
                status, answer = await self._once(
                    method, path, data, params, min(until - time.monotonic(), REQUEST_TIMEOUT_S)
                )
                if status < 300:
                    return answer
                if status < 500:
                    raise _refusal(status, answer)
                trouble = f"HTTP {status} {_problem(answer).detail}"
            except (aiohttp.ClientError, OSError) as error:
                trouble = faithful(error) or type(error).__name__
            if time.monotonic() + wait >= until:
                raise StoreUnavailable(f"{self.url} can't be reached: {trouble}")
            await asyncio.sleep(wait)
            wait = min(wait * 2, BACKOFF_S_MAX)

    async def ask_coordinator(
        self, coordinator: Coordinator, method: str, path: str, *, body: Any = None,
        params: Mapping[str, str] | None = None, timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> bytes:  # fmt: skip
        """The body of a 2xx from this coordinator and no other, asked once: through `url`, and directly once whoever is
        there says that it is no way to it.

        Raises:
            StoreUnavailable: no answer, or not now. ClusterRefused, or the error that the cluster named.
        """
        data = None if body is None else msgspec.json.encode(body)
        try:
            status, answer = await self._once(method, path, data, params, timeout_s, coordinator)
            if status == MISDIRECTED and not coordinator.is_direct:
                coordinator.is_direct = True
                logger.info("coordinator %s is asked at its own address", coordinator.address)
                status, answer = await self._once(method, path, data, params, timeout_s, coordinator)
        except (aiohttp.ClientError, OSError) as error:
            raise StoreUnavailable(f"coordinator {coordinator.address}: {faithful(error) or error!r}") from error
        if status < 300:
            return answer
        if status >= 500:
            raise StoreUnavailable(f"coordinator {coordinator.address}: HTTP {status} {_problem(answer).detail}")
        raise _refusal(status, answer)

    async def _once(
        self, method: str, path: str, data: bytes | None, params: Mapping[str, str] | None, left_s: float,
        coordinator: Coordinator | None = None,
    ) -> tuple[int, bytes]:  # fmt: skip
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),
            )  # fmt: skip
        headers = {} if data is None else {"Content-Type": "application/json"}
        base, limit = self.url, aiohttp.ClientTimeout(total=None)
        if coordinator is not None:
            headers[COORDINATOR_HEADER] = coordinator.address
            if coordinator.is_direct:
                base, limit = (
                    f"http://{coordinator.address}",
                    aiohttp.ClientTimeout(None, sock_connect=DIRECT_CONNECT_S),
                )
        async with (
            asyncio.timeout(left_s),
            self._session.request(
                method,
                base + path,
                data=data,
                params=params,
                headers=headers,
                allow_redirects=False,
                timeout=limit,
            ) as response,
        ):
            return response.status, await self._whole(response)

    async def _whole(self, response: aiohttp.ClientResponse) -> bytes:
        """One read gives what has come so far, and not what is still under way."""
        whole = bytearray()
        async for piece in response.content.iter_any():
            whole += piece
            if len(whole) > self._reply_bytes_max:
                raise StoreUnavailable(f"{self.url}: an answer of more than {self._reply_bytes_max} bytes")
        return bytes(whole)


def _refusal(status: int, answer: bytes) -> PointsmanError:
    problem = _problem(answer)
    known = _KNOWN.get(problem.code)
    if known is not None:
        return known(problem.detail or None)
    return ClusterRefused(
        f"HTTP {status} {problem.code} {faithful(problem.detail)}".rstrip(), http_status=status
    )  # fmt: skip


def _problem(answer: bytes) -> _Problem:
    try:
        return msgspec.json.decode(answer, type=_Problem)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Problem()
