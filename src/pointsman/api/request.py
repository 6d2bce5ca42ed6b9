"""Read a request and check its form: headers, query, body, ids.

Must not know what a run is. Values inside an input or payload are checked once, where they are stored
(`kernel/values`); here only their size and depth are checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from pointsman.api.errors import (
    BodyTooLarge,
    InvalidHeader,
    InvalidQuery,
    UnexpectedBody,
    UnsupportedEncoding,
    UnsupportedMediaType,
)
from pointsman.api.parameters import Parameter
from pointsman.api.settings import ApiSettings

T = TypeVar("T")
QUERY_FIELDS_MAX = 64

_ONCE = frozenset(
    (
        b"authorization", b"content-encoding", b"content-length", b"content-type", b"idempotency-key",
        b"host", b"last-event-id",
        b"origin", b"pointsman-coordinator", b"pointsman-run-id", b"pointsman-tenant", b"pointsman-request-id",
    )
)  # fmt: skip
"""Headers that matter: if one is given twice, two readers could use different values."""


class ClientGone(Exception):
    """The client closed the connection while its request was read; there is nobody to answer."""


class ApiRequest:
    """One ASGI request. Only the headers are parsed at once, everything else on demand."""

    __slots__ = ("_query", "headers", "method", "parameters", "params", "receive", "scope", "settings")

    def __init__(self, scope: Scope, receive: Receive, settings: ApiSettings) -> None:
        self.scope = scope
        self.receive = receive
        self.settings = settings
        self.method: str = scope["method"]
        self.params: Mapping[str, str] = scope.get("path_params", {})
        self.parameters: Sequence[Parameter[Any]] = ()
        self._query: dict[str, list[str]] = {}
        self.headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in _ONCE and name in self.headers:
                raise InvalidHeader(f"the header {name.decode('latin-1')} is there twice")
            self.headers[name] = value

    def value(self, parameter: Parameter[T]) -> T:
        """The value of a parameter that the route declares.

        Raises:
            InvalidQuery, InvalidHeader, InvalidId: the value is not allowed. RuntimeError: it is not declared.
        """
        if parameter not in self.parameters:
            raise RuntimeError(f"{parameter.name} is read, but not declared for {self.scope['path']}")
        return parameter.parse(self._texts(parameter), self.settings)

    def has(self, parameter: Parameter[Any]) -> bool:
        """Whether this declared parameter was given."""
        return bool(self._texts(parameter))

    def _texts(self, parameter: Parameter[Any]) -> Sequence[str]:
        if parameter.place == "query":
            return self._query.get(parameter.name, ())
        if parameter.place == "path":
            return (self.params[parameter.name],)
        value = self.headers.get(parameter.header)
        return () if value is None else (value.decode("latin-1"),)

    def read_query(self, parameters: Sequence[Parameter[Any]] = ()) -> None:
        """Parse the query by the route's declared parameters. Unknown parameters are refused, and repeated ones that
        may be given only once.

        Raises: InvalidQuery.
        """
        self.parameters = parameters
        raw: bytes = self.scope["query_string"]
        if not raw:
            return
        known = {parameter.name: parameter.repeated for parameter in parameters if parameter.place == "query"}
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )  # fmt: skip
        except ValueError as error:
            raise InvalidQuery(f"the query can't be read: {error}") from None
        for name, value in pairs:
            if name not in known:
                raise InvalidQuery(f"unknown parameter {name!r}; known here: {', '.join(known) or 'none'}")
            if name in self._query and not known[name]:
                raise InvalidQuery(f"{name} is there twice")
            self._query.setdefault(name, []).append(value)

    def has_body(self) -> bool:
        return b"transfer-encoding" in self.headers or self.headers.get(b"content-length", b"0") != b"0"

    def refuse_body(self) -> None:
        """Refuse a request with a body. Raises: UnexpectedBody."""
        if self.has_body():
            raise UnexpectedBody

    async def body(self) -> bytes:
        """The whole body. Its bytes are counted as they come in, whatever length was declared.

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
