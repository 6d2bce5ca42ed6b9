"""A JSON body as its declared type: bounded depth, no unknown field, none twice.

Must not know which bodies there are, nor how they came.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from pointsman.api.errors import InvalidBody, InvalidJson, UnknownField
from pointsman.kernel.errors import InvalidValue

T = TypeVar("T")

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""Matches from any quote on, closed or not: a body of escaped quotes would otherwise be tried from each of
them."""
_BRACES_TO_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def check_depth(body: bytes, depth_max: int) -> None:
    """Refuse JSON that nests deeper, whatever its width: each pass takes away the innermost level, at memory
    speed.

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
    """The body as its declared type: no unknown field, and none twice.

    Raises: InvalidJson, InvalidBody, UnknownField.
    """
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        text = str(error)
        raise (UnknownField if "unknown field" in text else InvalidBody)(text) from None
    except RecursionError:
        raise InvalidValue("nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidJson(f"the body is not JSON: {error}") from None
    # A field that is there once is written once; only what may be there twice pays for the exact look.
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
