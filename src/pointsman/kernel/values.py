"""JSON values as Pointsman stores them: one canonical form, checked once at the edge.

An accepted value must never become a poison event, so this is at least as strict as the strictest store:
no NaN or Infinity, no lone surrogates, no U+0000, no integer beyond ±2^53, depth and size limited.

Encoding is msgspec with sorted keys (0.17 µs for a small value, against 2.7 µs for the standard library). It refuses a
lone surrogate, but writes NaN as `null`, any integer in full, and goes down to any depth. So cheap scans of the encoded
bytes decide whether a slow, exact walk over the value is needed; the ordinary value never pays for it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

import msgspec

from pointsman.kernel.errors import InvalidValue, ValueTooLarge

NUL, BACKSLASH = "\x00", 0x5C
GROUPED_MAX = 5
"""Exceptions of a group that are told of."""
DEPTH_MAX = 100
"""Levels of nesting that a value may have."""
VALUE_BYTES_MAX = 1_000_000
"""Default limit of one encoded value, in bytes."""
INTEGER_MAX = 2**53

LONG_INTEGER_DIGITS = 16
"""2^53 has so many: no shorter integer is beyond it."""
_LONG_INTEGER = b"," + b"0" * LONG_INTEGER_DIGITS
_AS_LONG_INTEGER = bytes.maketrans(b'0123456789 \t\r\n:[-"', b"0000000000,,,,,,,,")
"""Makes a `_LONG_INTEGER` of every long integer: what may stand before a number becomes a comma, any digit a 0. Before
one that is a model's key stands a quotation mark."""
_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""What NaN and Infinity begin with in MessagePack."""
_SCALARS = frozenset({str, int, float, bool, type(None)})
_PLAIN = _SCALARS | {dict, list, tuple}


def _to_builtin(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise InvalidValue(f"a {type(value).__name__} is not a JSON value; declare it in the signature or pass plain data")


def _strict_builtins(value: Any) -> Any:
    """Like `value`, with models as plain data; floats stay floats, so that NaN is still seen."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="python")
    return value


_encoder = msgspec.json.Encoder(order="sorted", enc_hook=_to_builtin)
_decoder = msgspec.json.Decoder()
_packer = msgspec.msgpack.Encoder(enc_hook=_strict_builtins)


def encode(value: Any, *, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """The canonical JSON of `value`: sorted keys, no spaces, UTF-8.

    Raises:
        InvalidValue: the value is not JSON, or no store could hold it faithfully.
        ValueTooLarge: the result is over `bytes_max`.
    """
    try:
        encoded = _encoder.encode(value)
    except RecursionError:
        raise InvalidValue(f"nested deeper than {DEPTH_MAX} levels") from None
    except InvalidValue:
        raise
    except Exception as error:
        raise InvalidValue(f"not a JSON value: {error}") from error
    if len(encoded) > bytes_max:
        raise ValueTooLarge(f"{len(encoded)} bytes encoded; the limit is {bytes_max}")
    if type(value) is str:
        if NUL in value:
            check(value)
    elif _is_suspect(encoded, value):
        check(value)
    elif b"null" in encoded:
        check_nulls(value)
    return encoded


def decode(data: bytes | str, *, bytes_max: int = VALUE_BYTES_MAX) -> Any:
    """The value of JSON text from outside, refused where `encode` would refuse it.

    Raises:
        InvalidValue: not JSON, or a value that no store could hold faithfully.
        ValueTooLarge: over `bytes_max`.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > bytes_max:
        raise ValueTooLarge(f"{len(raw)} bytes; the limit is {bytes_max}")
    try:
        value = _decoder.decode(raw)
    except RecursionError:
        raise InvalidValue(f"nested deeper than {DEPTH_MAX} levels") from None
    except (msgspec.MsgspecError, ValueError, UnicodeError) as error:
        try:
            check_json(raw)
        except InvalidValue as unfaithful:
            raise unfaithful from error
        raise InvalidValue(f"not JSON: {error}") from error
    if _is_suspect(raw, value):
        check(value)
    return value


def digest(encoded: bytes) -> str:
    """A 128-bit digest of canonical JSON, 22 characters of URL-safe base64 (a shortened SHA-256)."""
    return urlsafe_b64encode(hashlib.sha256(encoded).digest()[:16])[:22].decode()


def faithful(text: object, chars_max: int = 2_000) -> str:
    """What others say, as text that every store takes: exceptions may hold anything, and even fail to say it."""
    try:
        said = str(text)
    except Exception:  # noqa: BLE001  an exception's own __str__ may raise
        said = "(its text can't be read)"
    return said[:chars_max].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


def said_by(error: BaseException) -> str:
    """An exception as text: its type, what it says, and the first few of those that it groups."""
    said = f"{type(error).__name__}: {faithful(error)}"
    if isinstance(error, BaseExceptionGroup):
        grouped = (f"{type(one).__name__}: {faithful(one, 200)}" for one in error.exceptions[:GROUPED_MAX])
        said = f"{said}: {'; '.join(grouped)}"
    return said


def check_nulls(value: Any) -> None:
    """Check a value whose JSON has a null in it: NaN and Infinity become null there, but not in MessagePack.

    Raises:
        InvalidValue: it holds one of them.
    """
    try:
        is_suspect = _NOT_FINITE.search(_packer.encode(value)) is not None
    except Exception:  # noqa: BLE001  a number or a type that MessagePack does not have
        is_suspect = True
    if is_suspect:
        check(value)


def check_json(text: bytes) -> None:
    """A look at what msgspec refuses. Raises InvalidValue: others take it for JSON, and no store could hold it (NaN,
    Infinity, a lone surrogate)."""
    with suppress(ValueError, RecursionError):
        check(json.loads(text))


def check(value: Any) -> None:
    """Look at every part of a value. Raises InvalidValue: no store could hold it faithfully."""
    for level in _levels(value):
        for item in level:
            if isinstance(item, dict):
                for key in item:
                    _check_scalar(key) if type(key) in _SCALARS else check(key)
            else:
                _check_scalar(item)


def _is_suspect(encoded: bytes, value: Any) -> bool:
    """May it hold U+0000 or an integer that is too large, or is it too deep?"""
    return (
        (BACKSLASH in encoded and b"u0000" in encoded)
        or _LONG_INTEGER in (b"," + encoded).translate(_AS_LONG_INTEGER)
        or (encoded.count(b"[") + encoded.count(b"{") > DEPTH_MAX and _is_deep(value))
    )


def _is_deep(value: Any) -> bool:
    try:
        deque(_levels(value), 0)
    except InvalidValue:
        return True
    return False


def _levels(value: Any) -> Iterator[list[Any]]:
    """What it holds but for keys, a level at a time, models as plain data. Raises InvalidValue: there are too many."""
    level = [_strict_builtins(value)]
    for _ in range(DEPTH_MAX + 1):
        yield level
        parts = (item.values() if type(item) is dict else _parts(item) for item in level if type(item) not in _SCALARS)
        level = [item if type(item) in _PLAIN else _strict_builtins(item) for item in chain.from_iterable(parts)]
        if not level:
            return
    raise InvalidValue(f"nested deeper than {DEPTH_MAX} levels")


def _parts(value: Any) -> Iterable[Any]:
    """What a container holds; a text or number of a class of its own holds nothing."""
    if isinstance(value, str | int | float):
        return ()
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    return _parts(vars(value)) if hasattr(value, "__dict__") else ()


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue("NaN and Infinity are not JSON; send null or a string")
    elif isinstance(value, int) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise InvalidValue("an integer beyond ±2^53 is not exact everywhere; send it as a string")


def _check_text(text: str) -> None:
    if NUL in text:
        raise InvalidValue("U+0000 can't be stored as text; remove it or encode the bytes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue("a lone surrogate is not text; send valid Unicode") from None
