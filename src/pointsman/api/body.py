"""Read a JSON body as its declared type: bounded depth, no unknown fields, no field twice.

Must not know which bodies there are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Generic, TypeVar

import msgspec

from pointsman.api.errors import InvalidBody, InvalidJson, UnknownField
from pointsman.api.request import ApiRequest
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""Matches a string from any quote on, closed or not; otherwise a body of escaped quotes would be tried from each of
them.
"""
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class JsonBody(Generic[S]):
    """A body that is an object of a declared type.

    Args:
        default: what an absent body means; without a default, a body is required.
    """

    def __init__(self, type_: type[S], *, default: S | None = None) -> None:
        self.type = type_
        self.required = default is None
        self._default = default
        self._decoder = msgspec.json.Decoder(type_)
        self._fields: tuple[str, ...] = type_.__struct_fields__

    async def read(self, request: ApiRequest) -> S:
        """Raises: InvalidJson, InvalidBody, UnknownField, InvalidValue, and what `ApiRequest.body` raises."""
        raw = await request.body()
        if not raw and self._default is not None:
            return self._default
        check_depth(raw, request.settings.json_depth_max + 1)  # the body itself is one level
        return decode_body(raw, self._decoder, self._fields)


class AnyBody:
    """A body that is any JSON value. It is passed on unchanged, and checked in full where it is stored.

    Args:
        default: what an absent body means; without a default, a body is required.
    """

    type: Any = msgspec.Raw

    def __init__(self, *, default: bytes | None = None) -> None:
        self.required = default is None
        self._default = default

    async def read(self, request: ApiRequest) -> bytes:
        """Raises: InvalidJson, InvalidValue, and what `ApiRequest.body` raises."""
        raw = await request.body() or self._default
        if raw is None:
            raise InvalidJson("the body is missing: send a JSON value; null is one")
        check_depth(raw, request.settings.json_depth_max)
        return raw


Body = JsonBody[Any] | AnyBody


def check_depth(body: bytes, depth_max: int) -> None:
    """Refuse JSON that nests deeper than `depth_max`. Each pass removes the innermost level at memory speed, so the
    width of the JSON does not matter.

    Raises: InvalidValue.
    """
    if body.count(b"[") + body.count(b"{") <= depth_max:
        return
    brackets = _STRING.sub(b"", body).translate(_BRACES_TO_BRACKETS, _NO_BRACKETS)
    for _ in range(depth_max):
        if not brackets:
            return
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise InvalidValue(f"nested deeper than {depth_max} levels")


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T], fields: tuple[str, ...]) -> T:
    """The body as its declared type, without unknown fields and without a field twice.

    Raises: InvalidJson, InvalidBody, UnknownField, InvalidValue.
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        raise (UnknownField if "unknown field" in text else InvalidBody)(text) from None
    except RecursionError:
        raise InvalidValue("nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        values.check_json(body)
        raise InvalidJson(f"the body is not JSON: {error}") from None
    # A field that occurs once is written once; only a body that may have one twice pays for the exact check.
    if any(body.count(b'"%s"' % name.encode()) > 1 for name in fields) or b"\\u006" in body or b"\\u007" in body:
        _refuse_repeated(body)
    return value


def _refuse_repeated(body: bytes) -> None:
    try:
        pairs: Any = json.loads(body, object_pairs_hook=list, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidBody(f"the field {name!r} is there twice")
