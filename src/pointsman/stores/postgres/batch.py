"""A batch of appends as the columns of one statement's parameters, and the order in which it locks.

Every element of an array costs asyncpg 0.25 µs to look at (it asks an abstract base class what it is), more than
all the rest of its encoding. So a column of integers travels as the text of an array, texts that repeat travel once and
are named by number, and nonces lie one after the other in one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
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
_of_move = attrgetter("run", "epoch", "expected", "status", "owner", "folded", "wake_at")


def check(batch: Sequence[Append]) -> None:
    """PostgreSQL ignores a second update of a row in one statement without a word, so it must never come to that.

    Raises:
        ValueError: a run is twice in the batch, or has a letter from a neighbour of its batch; or a sequence is none,
            or a nonce.
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
    """The shortest statement of `append.sql` that does all of it."""
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
    """Moves before creations, each by code point, as the database sorts ids: all statements lock in one order."""
    return sorted(batch, key=_place)


def _place(append: Append) -> tuple[bool, str]:
    return append.create is not None, append.run


class _Words(dict[str, int]):
    """Texts that repeat, each with its number, from 1, in the order in which they were first asked for."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self) + 1
        return number


def parameters(kind: str, ordered: Sequence[Append], plain_bytes_max: int, *, safely: bool = False) -> Parameters:
    """Words, nonces, columns of heads to move, heads to create, and events; for a family also letters and all heads to
    lock; for a family or a batch with rows, these; and typed states.

    Args:
        kind: what `statement` gave.
        ordered: what `in_order` gave.
        safely: the batch was refused before: what is not certainly JSON is packed.
    """
    words = _Words()
    moves = [append for append in ordered if append.create is None]
    creates = [(append, new) for append in ordered if (new := append.create) is not None]
    columns = [
        *_moves(moves, words), len(moves), *_creates(creates, words), *_events(ordered, words, plain_bytes_max, safely)
    ]  # fmt: skip
    values = [list(words), b"".join([append.nonce for append in ordered]), *columns]
    if kind in ("append_family", "append_states"):
        values += _letters(ordered)
    if kind != "append":
        values += rows.columns(ordered)
    if kind == "append_states":
        values += rows.states(ordered)
    return values


def _moves(moves: Sequence[Append], words: _Words) -> Parameters:
    runs, epochs, expected, statuses, owners, folded, wakes = _columns(map(_of_move, moves), 7)
    return [
        runs,
        _integers(epochs),
        _integers(expected),
        _integers([_shape(a) for a in moves]),
        _integers([words[status] for status in statuses]),
        _integers(owners),
        _integers(_unless_all(folded, 0)),
        _unless_all(wakes, None),
    ]


def _shape(append: Append) -> int:
    """What kind of move it is, as one number (see `move` in append.sql)."""
    shape = 4 * len(append.events) + append.closes
    if append.redrives or append.generations or not append.is_progress:
        begins = append.base - append.expected if append.generations else 0
        shape += 2 * append.redrives + (begins << 22) + (append.generations << 42)
        shape += (not append.is_progress) << 62
    return shape


def _creates(creates: Sequence[tuple[Append, NewRun]], words: _Words) -> Parameters:
    return [
        [a.run for a, _ in creates],
        _integers([a.epoch for a, _ in creates]),
        _integers([len(a.events) for a, _ in creates]),
        _integers([words[a.status] for a, _ in creates]),
        _integers([a.owner for a, _ in creates]),
        _unless_all([a.wake_at for a, _ in creates], None),
        _integers([a.folded for a, _ in creates]),
        _integers([new.bucket for _, new in creates]),
        _integers([words[new.workflow] for _, new in creates]),
        _integers([new.version for _, new in creates]),
        _integers([words[new.build] for _, new in creates]),
        [new.digest for _, new in creates],
        _integers([words[new.tenant] for _, new in creates]),
        _unless_all([new.attributes for _, new in creates], {}),
        _unless_all([new.parent for _, new in creates], None),
        _unless_all([new.parent_call for _, new in creates], None),
    ]


def _events(ordered: Sequence[Append], words: _Words, plain_bytes_max: int, safely: bool) -> Parameters:
    places: list[int] = []
    for n, append in enumerate(ordered, 1):
        first = (n << 32) + append.expected + 1
        places += range(first, first + len(append.events))
    events = [event for append in ordered for event in append.events]
    types, versions, times, bodies, checksums = _columns(map(msgspec.structs.astuple, events), 5)
    plain, packed, codecs = bodies, [], []
    if safely or not payload.are_plain(bodies, plain_bytes_max):
        store = payload.store_safely if safely else payload.store
        plain, packed, codecs = _columns((store(body, plain_bytes_max) for body in bodies), 3)
    return [
        _integers(places),
        _integers(times),
        _integers([words[kind] for kind in types]),
        plain,
        _integers(_unless_all(versions, 1)),
        _unless_all(packed, None),
        _integers(_unless_all(codecs, None)),
        _integers(checksums),
    ]


def _letters(ordered: Sequence[Append]) -> Parameters:
    letters = [(n, letter) for n, append in enumerate(ordered, 1) if (letter := append.letter) is not None]
    return [
        _integers([n for n, _ in letters]),
        [letter.run for _, letter in letters],
        [letter.key for _, letter in letters],
        [letter.kind for _, letter in letters],
        [letter.body for _, letter in letters],
        sorted({append.run for append in ordered} | {letter.run for _, letter in letters}),
    ]


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Rows on their side; so many empty columns where there is no row."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]


def _unless_all(column: list[Any], value: object) -> list[Any]:
    """Empty for a column that holds nothing else: the statement knows its default."""
    return [] if column.count(value) == len(column) else column


def _integers(column: Sequence[int | None]) -> str:
    """An array as PostgreSQL reads it from text, `{1,null,3}`: JSON in other brackets."""
    return "{" + _encoder.encode(column).decode()[1:-1] + "}"
