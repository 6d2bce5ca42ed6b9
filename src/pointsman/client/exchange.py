"""What both clients do alike with HTTP: addresses, requests, answers, and failures to get one.

Must not know which verbs there are, nor how a client waits.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
import msgspec
import pydantic

from pointsman.api.views import ResultBody
from pointsman.client.asks import Ask
from pointsman.client.errors import InvalidArgument, RunHeldBack, RunNotCompleted, Unreachable, from_answer
from pointsman.client.following import HELD_STATUSES, SILENCE_S
from pointsman.client.patience import ConnectionRefused, Patience
from pointsman.kernel.errors import PointsmanError

T = TypeVar("T")
DEFAULT_URL = "http://127.0.0.1:7777"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
GRACE_S = 2.0
"""An answer that was due when nobody waits any longer may be so late."""
STREAM_TIMEOUT = httpx.Timeout(SILENCE_S, connect=CONNECT_TIMEOUT_S, pool=None)
WAITING = httpx.Limits(max_connections=500)
"""Of the connections for waits and streams, which may all be silent for long. They have a pool of their own: a signal
that had to wait for one of them might be what it waits for. More than so many are under way by turns."""


def settings(url: str, token: str | None, tenant: str | None) -> dict[str, Any]:
    """What an httpx client is made with. Raises InvalidArgument: the URL is none, or a header can't carry the rest."""
    headers = {"Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if tenant is not None:
        headers["Pointsman-Tenant"] = tenant
    if not all(value.isascii() and value.isprintable() for value in headers.values()):
        raise InvalidArgument("a token or tenant has characters that no header carries")
    try:
        base = httpx.URL(url.rstrip("/"))
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidArgument(f"{url}: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise InvalidArgument(f"{url}: give the address as http://host:port")
    is_secure = base.scheme == "https"  # to load the certificates takes 30 ms, as long as the rest of a short verb
    return {"base_url": base, "headers": headers, "trust_env": False, "verify": is_secure}


def arguments(ask: Ask[Any]) -> dict[str, Any]:
    """What an httpx request is made with."""
    headers = dict(ask.headers)
    if ask.body is not None:
        headers["Content-Type"] = "application/json"
    longest_s = math.inf if ask.until is None else max(ask.until - time.monotonic(), 0.0) + GRACE_S
    read_s, connect_s = min(ask.wait_s + READ_TIMEOUT_S, longest_s), min(CONNECT_TIMEOUT_S, longest_s)
    pool_s = longest_s if longest_s < math.inf else None  # to wait for a connection of one's own says nothing of others
    return {
        "method": ask.method, "url": ask.path, "params": list(ask.params), "content": ask.body, "headers": headers,
        "timeout": httpx.Timeout(read_s, connect=connect_s, pool=pool_s),
    }  # fmt: skip


def unreachable(url: str, error: Exception) -> Unreachable:
    """The error for a request that got no answer."""
    kind = ConnectionRefused if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) else Unreachable
    return kind(
        f"no answer from {url} ({str(error) or type(error).__name__}): "
        "start a cluster with `pointsman up`, or give the address of one that runs"
    )


def cut(url: str) -> Unreachable:
    """The error for a stream that ended before its run."""
    return Unreachable(f"{url} closed the stream before the run's end")


def pairs(params: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Query parameters; a sequence is the parameter repeated, None is none."""
    found: list[tuple[str, str]] = []
    for name, value in (params or {}).items():
        several = value if isinstance(value, list | tuple) else [value]
        found += [(name, str(one)) for one in several if one is not None]
    return found


def checked(url: str, response: httpx.Response) -> httpx.Response:
    """A success. Raises: the problem that it is instead."""
    if response.status_code >= 400:
        error = from_answer(url, response.status_code, response.content)
        error.__dict__["retry_after_s"] = retry_after_s(response)
        raise error
    return response


def retry_after_s(response: httpx.Response) -> float:
    """What an answer asks for; 0 without, or where another coordinator may be asked at once."""
    text = response.headers.get("retry-after", "")
    is_elsewhere = response.headers.get("pointsman-retry-elsewhere") == "1"  # `once` is for routers
    return float(text) if text.isdigit() and not is_elsewhere else 0.0


@functools.lru_cache(maxsize=256)
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_)


def decoded(url: str, ask: Ask[T], response: httpx.Response) -> T:
    """The answer of a success. Raises Refused: it is not what this release knows."""
    try:
        value: T = _decoder(ask.type).decode(response.content)
    except msgspec.MsgspecError:
        raise from_answer(url, response.status_code, b"") from None
    return value


@functools.lru_cache(maxsize=256)
def _adapter(type_: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(type_)


def output(answer: ResultBody, type_: Any) -> Any:
    """What a run gave, as `type_`; plain data where it is None.

    Raises:
        RunNotCompleted, RunHeldBack: there is none.
        pydantic.ValidationError: it is no `type_`.
    """
    if answer.status in HELD_STATUSES:
        raise RunHeldBack(answer.id, answer.status)
    if answer.status != "completed":
        failure = answer.failure if isinstance(answer.failure, msgspec.Struct) else None
        raise RunNotCompleted(answer.id, answer.status, failure)
    raw = bytes(answer.output) if isinstance(answer.output, msgspec.Raw) else b"null"
    if type_ is None:
        return msgspec.json.decode(raw)
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return msgspec.json.decode(raw, type=type_)
    return _adapter(type_).validate_json(raw)


class Trying:
    """One request and its repetitions, none of them after `until`."""

    def __init__(self, patience: Patience, *, repeats: bool = True, until: float | None = None) -> None:
        self._patience = patience
        self._until = math.inf if until is None else until
        self._repeats = repeats
        self._began = time.monotonic()
        self._tries = 0

    def worked(self) -> None:
        """Something came: from now on it is a new try."""
        self._tries, self._began = 0, time.monotonic()

    def pause_s(self, error: PointsmanError, *, has_answered: bool) -> float:
        """Seconds until the next try. Raises `error` when it is time to give up."""
        self._tries += 1
        now = time.monotonic()
        if now >= self._until:
            raise error
        pause_s = self._patience.pause_s(
            error, tries=self._tries, trying_s=now - self._began, has_answered=has_answered,
            repeats=self._repeats, retry_after_s=error.__dict__.get("retry_after_s", 0.0),
        )  # fmt: skip
        return min(pause_s, self._until - now)
