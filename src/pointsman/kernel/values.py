"""JSON values as Pointsman stores them: one canonical form, checked once at the edge.

An accepted value must never become a poison event, so this is at least as strict as the strictest store:
no NaN or Infinity, no lone surrogates, no U+0000, no integer beyond ±2^53, depth and size limited.

Encoding is msgspec with sorted keys (0.17 µs for a small value, against 2.7 µs for the standard library), which writes
NaN as `null` and any integer in full without a word. So cheap scans of the encoded bytes decide whether the slow, exact
walk over the value is needed; the ordinary value never pays for it.
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from pointsman.kernel.errors import InvalidValue, ValueTooLarge

DEPTH_MAX = 100
"""Levels of nesting that a value may have."""
VALUE_BYTES_MAX = 1_000_000
"""Default limit of one encoded value, in bytes."""
INTEGER_MAX = 2**53

LONG_NUMBER_DIGITS = 16
"""2^53 has so many: no shorter integer is beyond it."""
_LONG_NUMBER = re.compile(rb"\d{%d}" % LONG_NUMBER_DIGITS)
_NOT_TELLING = bytes(set(range(256)) - set(b"0123456789[{\\"))


def _to_builtin(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise InvalidValue(f"a {type(value).__name__} is not a JSON value; declare it in the signature or pass plain data")


_encoder = msgspec.json.Encoder(order="sorted", enc_hook=_to_builtin)
_decoder = msgspec.json.Decoder()


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
    if _is_suspect(encoded):
        _check(_strict_builtins(value), 0)
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
        raise InvalidValue(f"not JSON: {error}") from error
    if _is_suspect(raw):
        _check(value, 0)
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


def check(value: Any) -> None:
    """Raises InvalidValue: no store could hold it faithfully."""
    _check(value, 0)


def _is_suspect(encoded: bytes) -> bool:
    """Does the value need the slow, exact walk? Two cheap scans say no for almost all."""
    if b"null" in encoded:
        return True
    telling = encoded.translate(None, _NOT_TELLING)
    if len(telling) < LONG_NUMBER_DIGITS and b"\\" not in telling:
        return False
    return (
        b"u0000" in encoded
        or b"\\ud" in encoded
        or b"\\uD" in encoded
        or _LONG_NUMBER.search(encoded) is not None
        or encoded.count(b"[") + encoded.count(b"{") > DEPTH_MAX
    )


def _strict_builtins(value: Any) -> Any:
    """Like `value`, with models as plain data; floats stay floats, so that NaN is still seen."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="python")
    return value


def _check(value: Any, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise InvalidValue(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise InvalidValue("an integer beyond ±2^53 is not exact everywhere; send it as a string")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValue("NaN and Infinity are not JSON; send null or a string")
    else:
        for item in _parts(value):
            _check(item, depth + 1)


def _parts(value: Any) -> Iterable[Any]:
    """What a container holds."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    plain = _strict_builtins(value)
    if plain is not value:
        return _parts(plain)
    return _parts(vars(value)) if hasattr(value, "__dict__") else ()


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise InvalidValue("U+0000 can't be stored as text; remove it or encode the bytes")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue("a lone surrogate is not text; send valid Unicode") from None
