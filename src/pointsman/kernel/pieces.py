"""How an event holds a large input: pieces of the run's own log, and what is new.

The body of an event is a JSON header, and behind it, after one newline, a tail of raw bytes (compact JSON holds no raw
newline). A piece is `[length]`, the next bytes of this tail, or `[sequence, offset, length]`, bytes of an earlier
event's payload. The payload of an event with an input in pieces is its header, one newline, and the input, rebuilt; of
any other event it is the body. Headers count as stored, before upcasting, so an offset stays right for ever. Copies
point backwards only.

A copy may be of a copy: a conversation's input is the one before it and two pieces more, at any length, where pieces of
bodies alone would list every message again in every input (O(N²)). Rebuilding follows such a chain with a loop, not by
recursion; what it reads is what it has to read anyway, since each message stands in another event.

Which pieces to write is decided in `copies.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from pointsman.kernel.errors import CorruptLog

INLINE_BYTES_MAX = 2_048
"""Inputs up to this many bytes stay plain JSON in the header, where SQL can read them."""

Piece = tuple[int, ...]


class _Header(msgspec.Struct):
    pieces: tuple[Piece, ...] = ()


_decoder = msgspec.json.Decoder(_Header)


def split_body(body: bytes) -> tuple[bytes, bytes]:
    """The header and the tail of an event's body."""
    header, _, tail = body.partition(b"\n")
    return header, tail


def literal(data: bytes) -> tuple[Piece, ...]:
    """The pieces of an input that is recorded whole, its bytes being the tail."""
    return ((len(data),),)


def length_of(pieces: Sequence[Piece]) -> int:
    """How many bytes the pieces stand for."""
    return sum(piece[-1] for piece in pieces)


def sources_of(body: bytes) -> set[int]:
    """The events that the pieces in this body copy from, by sequence."""
    return {piece[0] for piece in _pieces_of(body) if len(piece) == 3}


def rebuild(
    pieces: Sequence[Piece], tail: bytes, sequence: int, body_of: Callable[[int], bytes],
    known: Mapping[int, bytes] | None = None,
) -> bytes:  # fmt: skip
    """The input that `pieces` of event `sequence` stand for.

    Args:
        body_of: gives an earlier event's stored body.
        known: inputs rebuilt before, by sequence: a copy from one of them follows its chain no further.

    Raises:
        CorruptLog: a piece points forwards, outside an event, or the tail is too short or too long.
    """
    out: list[bytes] = []
    sources: dict[int, tuple[Sequence[Piece], bytes]] = {sequence: (_checked(pieces, tail, sequence), tail)}
    todo: list[tuple[int, int, int]] = [(sequence, 0, length_of(pieces))]
    while todo:
        at, start, stop = todo.pop()
        if at < 0:  # a literal of event -at, whose turn it is
            out.append(sources[-at][1][start:stop])
            continue
        found = list(_cut(at, sources[at][0], start, stop))
        for source, _, end in found:
            if source > 0 and source not in sources:
                sources[source] = _payload(source, body_of(source), known)
            if source > 0 and end > length_of(sources[source][0]):
                raise CorruptLog(f"event {at}: a piece points outside event {source}")
        todo += reversed(found)
    return b"".join(out)


def _cut(sequence: int, pieces: Sequence[Piece], start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """What lies from `start` to `stop`: (where, start, stop), where -sequence is the event's own literal bytes."""
    position = used = 0
    for piece in pieces:
        length = piece[-1]
        first, last = max(start - position, 0), min(stop - position, length)
        if first < last:
            where, offset = (-sequence, used) if len(piece) == 1 else piece[:2]
            yield where, offset + first, offset + last
        position += length
        used += length if len(piece) == 1 else 0


def _payload(sequence: int, body: bytes, known: Mapping[int, bytes] | None) -> tuple[Sequence[Piece], bytes]:
    """An event's payload, itself as pieces and their literal bytes: header and newline are a literal like others."""
    pieces = _pieces_of(body)
    if not pieces:
        return literal(body), body
    header, tail = split_body(body)
    if known is not None and sequence in known:
        whole = header + b"\n" + known[sequence]
        return literal(whole), whole
    return ((len(header) + 1,), *_checked(pieces, tail, sequence)), header + b"\n" + tail


def _pieces_of(body: bytes) -> tuple[Piece, ...]:
    if b'"pieces":' not in body:  # a key of that name deeper in the header is sorted out by the decoder
        return ()
    return _decoder.decode(split_body(body)[0]).pieces


def _checked(pieces: Sequence[Piece], tail: bytes, sequence: int) -> Sequence[Piece]:
    for piece in pieces:
        copies = len(piece) == 3 and 0 < piece[0] < sequence and piece[1] >= 0
        if not (copies or len(piece) == 1) or piece[-1] < 0:
            raise CorruptLog(f"event {sequence}: {list(piece)} is not a piece that points backwards")
    used = sum(piece[0] for piece in pieces if len(piece) == 1)
    if used != len(tail):
        raise CorruptLog(f"event {sequence}: its pieces name {used} literal bytes, its tail has {len(tail)}")
    return pieces
