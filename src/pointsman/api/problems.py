"""Errors as Problem Details (RFC 9457): written only here, for the app and for the bare connection.

Must not know routes, runs or which errors there are.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from pointsman.api.errors import ApiError
from pointsman.api.reply import Reply
from pointsman.kernel.errors import Draining, Overloaded, PointsmanError

MEDIA_TYPE = b"application/problem+json"
DETAIL_CHARS_MAX = 1_000
RETRY_AFTER_S = 1
RETRY_ELSEWHERE = b"pointsman-retry-elsewhere"

_encoder = msgspec.json.Encoder()


class Problem(msgspec.Struct, omit_defaults=True):
    """The body of an error. `code` is stable; `type` is a URN of it; the rest is for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str | None = None


def describe(error: PointsmanError, *, instance: str | None = None) -> bytes:
    """The JSON of an error. Its text may quote a request, so it is truncated and made valid Unicode."""
    status = _status(error)
    detail = str(error)[:DETAIL_CHARS_MAX].encode("utf-8", "replace").decode()
    return _encoder.encode(
        Problem(f"urn:pointsman:problem:{error.code}", error.meaning(), status, error.code, detail, instance)
    )


def reply(error: PointsmanError, *, instance: str | None = None) -> Reply:
    """The response to an error."""
    return Reply(_status(error), describe(error, instance=instance), headers(error), MEDIA_TYPE)


def headers(error: PointsmanError) -> list[tuple[bytes, bytes]]:
    extra = list(error.headers) if isinstance(error, ApiError) else []
    if _status(error) == 503:
        seconds = error.retry_after_s if isinstance(error, Overloaded) else RETRY_AFTER_S
        extra.append((b"retry-after", b"%d" % round(seconds)))
    if isinstance(error, Overloaded):
        extra.append((RETRY_ELSEWHERE, b"once"))
    if isinstance(error, Draining) or (isinstance(error, ApiError) and error.elsewhere):
        extra.append((RETRY_ELSEWHERE, b"1"))
    return extra


def http_response(error: PointsmanError) -> bytes:
    """A whole HTTP/1.1 response for a connection that never reached the app, with `Connection: close`."""
    body, status = describe(error), _status(error)
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode(),
        b"content-type: " + MEDIA_TYPE,
        b"content-length: %d" % len(body),
        b"connection: close",
        *(name + b": " + value for name, value in headers(error)),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _status(error: PointsmanError) -> int:
    return error.status if 400 <= error.status <= 599 else 500
