"""How an event holds a large input: pieces of the run's own log, and what is new.

The body of an event is a JSON header, and behind it, after one newline, a tail of raw bytes (compact JSON holds no raw
newline). A piece is `[length]`, the next bytes of this tail, or `[sequence, offset, length]`, bytes of an earlier
event's body, as stored and before upcasting. Copies point backwards only, and are resolved iteratively.

Today's writer records a whole input as one literal; the format, and the reader, take any pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pointsman.kernel.errors import CorruptLog

INLINE_BYTES_MAX = 2_048
"""Inputs up to this many bytes stay plain JSON in the header, where SQL can read them."""

Piece = tuple[int, ...]


def split_body(body: bytes) -> tuple[bytes, bytes]:
    """The header and the tail of an event's body."""
    header, _, tail = body.partition(b"\n")
    return header, tail


def literal(data: bytes) -> tuple[Piece, ...]:
    """The pieces of an input that is recorded whole, its bytes being the tail."""
    return ((len(data),),)


def rebuild(pieces: Sequence[Piece], tail: bytes, sequence: int, body_of: Callable[[int], bytes]) -> bytes:
    """The input that `pieces` of event `sequence` stand for; `body_of` gives an earlier event's stored body.

    Raises:
        CorruptLog: a piece points forwards, outside an event, or the tail is too short or too long.
    """
    out: list[bytes] = []
    used = 0
    for piece in pieces:
        if len(piece) == 1:
            out.append(tail[used : used + piece[0]])
            used += piece[0]
        elif len(piece) == 3 and 0 < piece[0] < sequence and piece[1] >= 0 and piece[2] >= 0:
            source = body_of(piece[0])
            if piece[1] + piece[2] > len(source):
                raise CorruptLog(f"event {sequence}: a piece points outside event {piece[0]}")
            out.append(source[piece[1] : piece[1] + piece[2]])
        else:
            raise CorruptLog(f"event {sequence}: {list(piece)} is not a piece that points backwards")
    if used != len(tail):
        raise CorruptLog(f"event {sequence}: its pieces name {used} literal bytes, its tail has {len(tail)}")
    return b"".join(out)
