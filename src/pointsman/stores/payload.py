"""How the body of an event lies in its row: as JSON that SQL can read, or packed.

`body` holds plain JSON, byte for byte. `packed` holds everything else under a codec mark: what is too large for a row
that is to stay small, a header with a raw tail (see `kernel/pieces.py`), and whatever PostgreSQL's JSON parser
refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

import msgspec
import zstandard

from pointsman.kernel.errors import CorruptLog

PLAIN: Final = 0
RAW: Final = 1
ZSTD: Final = 2
PACK_BYTES_MIN: Final = 512
"""Smaller ones are not worth compressing."""

_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()

Stored = tuple[bytes | None, bytes | None, int | None]
"""The columns body, packed, codec; None for what the statement fills in."""
_first, _last = itemgetter(0), itemgetter(-1)


def as_lines(bodies: Sequence[bytes], plain_bytes_max: int) -> bytes | None:
    """One to a line, if `store` would leave every one as it is. Asked of whole batches, and so without a loop of
    Python's."""
    lines = b"\n".join(bodies)
    if not all(bodies) or max(map(len, bodies), default=0) > plain_bytes_max or lines.count(b"\n") >= len(bodies):
        return None
    are_objects = {*map(_first, bodies)} == {ord("{")} and {*map(_last, bodies)} == {ord("}")}
    return lines if are_objects else None


def store(body: bytes, plain_bytes_max: int) -> Stored:
    """The columns of a body. What looks like JSON is not parsed: `is_json` is asked when the server refuses it."""
    if len(body) <= plain_bytes_max and body.startswith(b"{") and body.endswith(b"}") and b"\n" not in body:
        return body, None, None
    return pack(body)


def store_safely(body: bytes, plain_bytes_max: int) -> Stored:
    """For a batch that was refused: what is not certainly JSON is packed."""
    stored = store(body, plain_bytes_max)
    return stored if stored[0] is None or is_json(body) else pack(body)


def pack(body: bytes) -> Stored:
    if len(body) >= PACK_BYTES_MIN:
        packed = _compressor.compress(body)
        if len(packed) < len(body):
            return None, packed, ZSTD
    return None, body, RAW


def is_json(body: bytes) -> bool:
    """Whether PostgreSQL takes it for JSON too; false when in doubt."""
    try:
        msgspec.json.decode(body)
        body.decode("utf-8")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def load(body: bytes, packed: bytes, codec: int) -> bytes:
    """The body as it was appended.

    Raises:
        CorruptLog: the packed form is damaged, or of a codec that this release does not know.
    """
    if codec == PLAIN:
        return body
    if codec == RAW:
        return packed
    if codec != ZSTD:
        raise CorruptLog(f"an event is packed with codec {codec}, which this release does not know")
    try:
        return _decompressor.decompress(packed)
    except zstandard.ZstdError as error:
        raise CorruptLog(f"a packed event is damaged: {error}") from error
