"""A batch of appends as the columns of one statement's parameters, and the order in which it locks.

Each element of an array costs asyncpg 0.25 µs to inspect (it checks it against an abstract base class), more than the
rest of its encoding. So a column of numbers is sent as the text of an array, and bodies as the lines of one text; texts
that repeat are sent once and referred to by number, and nonces are concatenated in one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.ports.event_log import Append, NewRun
from pointsman.stores import payload
from pointsman.stores.postgres import rows

Parameters = list[Any]
SEQUENCE_MAX: Final = 2**31 - 1
NONCE_BYTES: Final = 8
EVENTS_MAX: Final = 2**20 - 1

_encoder = msgspec.json.Encoder()


def check(batch: Sequence[Append]) -> None:
    """Refuse a batch that would update a row twice: PostgreSQL silently ignores the second update in one statement.

    Raises:
        ValueError: a run is in the batch twice, or has a letter from another run of the batch; or a sequence or a nonce
            is invalid.
    """
    runs = {append.run for append in batch}
    if len(runs) != len(batch):
        raise ValueError("a run appears once in a batch")
    for append in batch:
        if append.letter is not None and append.letter.run in runs:
            raise ValueError(f"the letter of {append.run} goes to {append.letter.run}, which is in the same batch")
        if not 0 <= append.expected <= SEQUENCE_MAX - len(append.events):
            raise ValueError(f"run {append.run}: there is no sequence {append.expected}")
        if len(append.events) > EVENTS_MAX or (append.create is not None and append.generations):
            raise ValueError(f"run {append.run}: {len(append.events)} events at once, or a generation before the first")
        if len(append.nonce) != NONCE_BYTES:
            raise ValueError(f"run {append.run}: a nonce has {NONCE_BYTES} bytes, this one {len(append.nonce)}")


def statement(batch: Sequence[Append]) -> str:
    """The shortest statement of `append.sql` that does everything that this batch needs."""
    shortest = "append"
    for append in batch:
        if append.state is not None:
            return "append_states"
        if append.letter is not None or (append.create is not None and append.create.parent is not None):
            shortest = "append_family"
        elif shortest == "append" and (append.tasks or append.reservations or append.notices):
            shortest = "append_rows"
    return shortest


def in_order(batch: Sequence[Append]) -> list[Append]:
    """Sort moves before creations, each by code point like the database: all statements then lock in the same order."""
    return sorted(batch, key=_place)


def _place(append: Append) -> tuple[bool, str]:
    return append.create is not None, append.run


class _Words(dict[str, int]):
    """Numbers for texts that repeat: counted from 1, in the order in which the texts are first looked up."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) + 1
        return number


def parameters(kind: str, ordered: Sequence[Append], plain_bytes_max: int, *, safely: bool = False) -> Parameters:
    """The parameters of the statement: words, nonces, columns of heads to move, heads to create, and events; for a
    family also letters and all heads to lock; for a family or a batch with rows, the rows; and typed states.

    Args:
        kind: the result of `statement`.
        ordered: the result of `in_order`.
        safely: the batch was refused before: pack every body that may not be JSON.
    """
    words = _Words()
    moves = [append for append in ordered if append.create is None]
    creates = [(append, new) for append in ordered if (new := append.create) is not None]
    firsts = [(n << 32) + append.expected + 1 for n, append in enumerate(ordered, 1)]
    columns = [
        *_moves(moves, firsts[: len(moves)], words), len(moves), *_creates(creates, words),
        *_events(ordered, firsts, words, plain_bytes_max, safely),
    ]  # fmt: skip
    values = [list(words), b"".join([append.nonce for append in ordered]), *columns]
    if kind in ("append_family", "append_states"):
        values += _letters(ordered)
    if kind != "append":
        values += rows.columns(ordered)
    if kind == "append_states":
        values += rows.states(ordered)
    return values


def _moves(moves: Sequence[Append], firsts: Sequence[int], words: _Words) -> Parameters:
    return [
        [a.run for a in moves],
        _literal([a.epoch for a in moves]),
        _literal(firsts),
        _literal([len(a.events) for a in moves]),
        _literal([words[a.status] for a in moves]),
        _literal([a.owner for a in moves]),
        _literal(_unless_all([a.closes for a in moves], False)),
        _literal(_unless_all([a.folded for a in moves], 0)),
        _unless_all([a.wake_at for a in moves], None),
        _literal(_unless_all([a.redrives for a in moves], False)),
        _literal(_unless_all([a.generations for a in moves], 0)),
        _literal(_unless_all([a.base for a in moves], 0)),
        _literal(_unless_all([a.is_progress for a in moves], True)),
    ]


def _creates(creates: Sequence[tuple[Append, NewRun]], words: _Words) -> Parameters:
    return [
        [a.run for a, _ in creates],
        _literal([a.epoch for a, _ in creates]),
        _literal([len(a.events) for a, _ in creates]),
        _literal([words[a.status] for a, _ in creates]),
        _literal([a.owner for a, _ in creates]),
        _unless_all([a.wake_at for a, _ in creates], None),
        _literal([a.folded for a, _ in creates]),
        _literal([new.bucket for _, new in creates]),
        _literal([words[new.workflow] for _, new in creates]),
        _literal([new.version for _, new in creates]),
        _literal([words[new.build] for _, new in creates]),
        [new.digest for _, new in creates],
        _literal([words[new.tenant] for _, new in creates]),
        _unless_all([new.attributes for _, new in creates], {}),
        _unless_all([new.parent for _, new in creates], None),
        _unless_all([new.parent_call for _, new in creates], None),
        _unless_all([new.created_at for _, new in creates], None),
    ]


def _events(
    ordered: Sequence[Append], firsts: Sequence[int], words: _Words, plain_bytes_max: int, safely: bool
) -> Parameters:
    places: list[int] = []
    for first, append in zip(firsts, ordered, strict=True):
        places += range(first, first + len(append.events))
    events = [event for append in ordered for event in append.events]
    bodies = [event.body for event in events]
    packed: list[bytes | None] = []
    codecs: list[int | None] = []
    lines = None if safely else payload.as_lines(bodies, plain_bytes_max)
    if lines is None:
        store = payload.store_safely if safely else payload.store
        stored = [store(body, plain_bytes_max) for body in bodies]
        lines = b"\n".join([plain or b"" for plain, _, _ in stored])
        packed = [raw for _, raw, _ in stored]
        codecs = [codec for _, _, codec in stored]
    return [
        _literal(places),
        _literal([event.at for event in events]),
        _literal([words[event.type] for event in events]),
        lines,
        _literal(_unless_all([event.version for event in events], 1)),
        _unless_all(packed, None),
        _literal(_unless_all(codecs, None)),
        _literal([event.checksum for event in events]),
    ]


def _letters(ordered: Sequence[Append]) -> Parameters:
    letters = [(n, letter) for n, append in enumerate(ordered, 1) if (letter := append.letter) is not None]
    return [
        _literal([n for n, _ in letters]),
        [letter.run for _, letter in letters],
        [letter.key for _, letter in letters],
        [letter.kind for _, letter in letters],
        [letter.body for _, letter in letters],
        sorted({append.run for append in ordered} | {letter.run for _, letter in letters}),
    ]


def _unless_all(column: list[Any], value: object) -> list[Any]:
    """The column, or an empty one if all its values equal `value`, which is the statement's default."""
    return [] if column.count(value) == len(column) else column


def _literal(column: Sequence[int | None]) -> str:
    """An array as the text that PostgreSQL reads, `{1,null,3}`: JSON with other brackets."""
    return "{" + _encoder.encode(column).decode()[1:-1] + "}"
