"""The settings of a Redis store; all of them are in the URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from pointsman.kernel.errors import PointsmanError

PREFIX: Final = "pointsman"
OPTIONS: Final = ("prefix", "unsafe", "timeout_s", "connections_max", "plain_bytes_max")
TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
"""Options that are passed to the client, with rediss://."""
CONNECTIONS_LEAST: Final = 2
_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class InvalidRedisUrl(PointsmanError):
    """The URL is not redis://[user:password@]host[:port][/database][?prefix=NAME][&unsafe=1]."""

    code = "invalid_store_url"
    status = 422


@dataclass(frozen=True)
class RedisSettings:
    """
    Attributes:
        url: the URL for the client, without our options.
        prefix: the prefix of all keys; another one for each cluster that shares a database.
        is_unsafe: accept, with a warning, a server that may lose what it has acknowledged.
        timeout_s: how long one operation may take; the outcome of a longer one is unknown.
        connections_max: connections in addition to those of the appends and of the leases.
        plain_bytes_max: bodies with more bytes are compressed.
    """

    url: str
    prefix: str = PREFIX
    is_unsafe: bool = False
    timeout_s: float = 10.0
    connections_max: int = 16
    plain_bytes_max: int = 2_048


def settings_of(url: str) -> RedisSettings:
    """Parse the settings in a URL. Raises InvalidRedisUrl."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    ours: dict[str, str] = {name: query.pop(name) for name in OPTIONS if name in query}
    unknown = sorted(set(query) - set(TLS_OPTIONS if parts.scheme == "rediss" else ()))
    if unknown:
        raise InvalidRedisUrl(
            f"?{unknown[0]}= is not known here: {', '.join(OPTIONS)}; rediss://: {', '.join(TLS_OPTIONS)}"
        )
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not re.fullmatch(r"(/\d*)?", parts.path):
        raise InvalidRedisUrl
    prefix = ours.get("prefix", PREFIX)
    if not _PREFIX.fullmatch(prefix):
        raise InvalidRedisUrl(f"prefix={prefix!r}: 1 to 64 letters, digits, '_', '.' or '-'")
    if ours.get("unsafe", "0") not in ("0", "1"):
        raise InvalidRedisUrl(f"unsafe={ours['unsafe']!r}: 0 or 1")
    return RedisSettings(
        urlunsplit(parts._replace(query=urlencode(query))), prefix, ours.get("unsafe") == "1",
        _number(ours, "timeout_s", RedisSettings.timeout_s, 0.1),
        int(_number(ours, "connections_max", RedisSettings.connections_max, CONNECTIONS_LEAST)),
        int(_number(ours, "plain_bytes_max", RedisSettings.plain_bytes_max, 0)),
    )  # fmt: skip


def _number(given: dict[str, str], name: str, default: float, least: float) -> float:
    if name not in given:
        return default
    try:
        number = msgspec.convert(given[name], type(default), strict=False)
    except msgspec.ValidationError:
        number = None
    if number is None or not least <= number < float("inf"):
        raise InvalidRedisUrl(f"{name}={given[name]!r}: a number from {least:g} on")
    return number
