"""Reading a request and checking it: headers, query, body, ids. What passes here has the right form.

Must not know what a run is. Values inside an input or payload are checked once, where they are stored
(`kernel/values`); here they only have to be of bounded size and depth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from pointsman.api.errors import (
    BodyTooLarge,
    InvalidHeader,
    InvalidId,
    InvalidQuery,
    UnexpectedBody,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from pointsman.api.settings import ApiSettings

QUERY_FIELDS_MAX = 64
KEY_CHARS_MAX = 255

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~@-]{0,127}")
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARS_MAX}}}")
_ONCE = frozenset(
    (
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"idempotency-key",
        b"last-event-id",
        b"origin", b"pointsman-run-id", b"pointsman-tenant", b"pointsman-request-id",
    )
)  # fmt: skip
"""Headers that decide something: said twice, two readers could believe different ones."""


class ClientGone(Exception):
    """The client closed the connection while its request was read; there is nobody to answer."""


class ApiRequest:
    """One request, as ASGI gives it. Nothing is parsed before it is asked for, but the headers."""

    __slots__ = ("headers", "method", "params", "receive", "scope", "settings")

    def __init__(self, scope: Scope, receive: Receive, settings: ApiSettings) -> None:
        self.scope = scope
        self.receive = receive
        self.settings = settings
        self.method: str = scope["method"]
        self.params: Mapping[str, str] = scope.get("path_params", {})
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _ONCE and name in self.headers:
                raise InvalidHeader(f"the header {name.decode('latin-1')} is there twice")
            self.headers[name] = value

    def id(self, name: str) -> str:
        """A path parameter that is an id or a name. Raises: InvalidId."""
        return checked_id(self.params[name], name)

    def id_header(self, name: bytes) -> str | None:
        """A header that carries an id. Raises: InvalidId."""
        value = self.headers.get(name)
        return None if value is None else checked_id(value.decode("latin-1"), name.decode())

    def key(self) -> str | None:
        """The idempotency key, 1 to 255 visible ASCII characters. Raises: InvalidHeader."""
        value = self.headers.get(b"idempotency-key")
        if value is None:
            return None
        text = value.decode("latin-1")
        if _KEY.fullmatch(text) is None:
            raise InvalidHeader(f"idempotency-key must be 1 to {KEY_CHARS_MAX} visible ASCII characters, no spaces")
        return text

    def query(self, *known: str, repeatable: tuple[str, ...] = ()) -> Query:
        """The query parameters, none of which may be unknown, or repeated without need. Raises:
        InvalidQuery."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return Query({})
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )  # fmt: skip
        except ValueError as error:
            raise InvalidQuery(f"the query can't be read: {error}") from None
        values: dict[str, list[str]] = {}
        for name, value in pairs:
            if name not in known and name not in repeatable:
                raise InvalidQuery(
                    f"unknown parameter {name!r}; known here: {', '.join((*known, *repeatable)) or 'none'}"
                )
            if name in values and name not in repeatable:
                raise InvalidQuery(f"{name} is there twice")
            values.setdefault(name, []).append(value)
        return Query(values)

    def has_body(self) -> bool:
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    def refuse_body(self) -> None:
        """Raises: UnexpectedBody."""
        if self.has_body():
            raise UnexpectedBody

    async def body(self) -> bytes:
        """The whole body, counted as it comes in whatever its length was said to be.

        Raises: BodyTooLarge, UnsupportedMediaType, UnsupportedEncoding, ClientGone.
        """
        if not self.has_body():
            return b""
        self._check_media()
        limit = self.settings.body_bytes_max
        length = self.headers.get(b"content-length")
        if length is not None and (not length.isdigit() or len(length) > 18 or int(length) > limit):
            raise BodyTooLarge(f"content-length is {length[:32].decode('latin-1')}; the limit is {limit} bytes")
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"the body is over {limit} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_media(self) -> None:
        encoding = self.headers.get(b"content-encoding")
        if encoding is not None and encoding.strip().lower() != b"identity":
            raise UnsupportedEncoding
        media = self.headers.get(b"content-type", b"").lower().replace(b" ", b"").replace(b'"', b"")
        if media not in (b"", b"application/json", b"application/json;charset=utf-8"):
            raise UnsupportedMediaType


class Query:
    """Query parameters by name, each read as what it should be. Errors are `InvalidQuery` and name the
    parameter."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        values = self._values.get(name)
        return values[0] if values else None

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 16 and low <= int(text) <= high):
            raise InvalidQuery(f"{name} must be a whole number from {low} to {high}")
        return int(text)

    def seconds(self, name: str, default: float, *, high: float) -> float:
        text = self.text(name)
        if text is None:
            return default
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) is None or float(text) > high:
            raise InvalidQuery(f"{name} must be seconds, from 0 to {high:g}")
        return float(text)

    def flag(self, name: str) -> bool:
        text = self.text(name)
        if text not in (None, "true", "false"):
            raise InvalidQuery(f"{name} must be true or false")
        return text == "true"


def checked_id(text: str, what: str) -> str:
    """Raises: InvalidId."""
    if _ID.fullmatch(text) is None:
        raise InvalidId(f"{what}: {(InvalidId.__doc__ or '').strip()}")
    return text
