"""A batch of appends as the columns of one statement's parameters, and the order in which it locks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pointsman.ports.event_log import Append, Letter, NewRun
from pointsman.stores.postgres import payload

Parameters = list[Any]


def check(batch: Sequence[Append]) -> None:
    """PostgreSQL ignores a second update of a row in one statement without a word, so it must never come to that.

    Raises:
        ValueError: a run is twice in the batch, or has a letter from a neighbour of its batch.
    """
    runs = {append.run for append in batch}
    if len(runs) != len(batch):
        raise ValueError("a run appears once in a batch")
    for append in batch:
        if append.letter is not None and append.letter.run in runs:
            raise ValueError(f"the letter of {append.run} goes to {append.letter.run}, which is in the same batch")


def is_family(batch: Sequence[Append]) -> bool:
    """Whether it needs the longer statement."""
    return any(a.letter is not None or (a.create is not None and a.create.parent is not None) for a in batch)


def parameters(batch: Sequence[Append], plain_bytes_max: int, store: Callable[[bytes, int], payload.Stored]) -> Parameters:
    """Columns of heads to move, heads to create, and events; for a family also letters and all heads to lock.

    Ids are sorted by code point, as the database sorts them: all statements lock in one order.
    """
    order = sorted(range(len(batch)), key=lambda n: batch[n].run)
    moves = [(n, batch[n]) for n in order if batch[n].create is None]
    creates = [(n, batch[n], new) for n in order if (new := batch[n].create) is not None]
    values = _moves(moves) + _creates(creates) + _events(batch, plain_bytes_max, store)
    if is_family(batch):
        letters = [(n, letter) for n in order if (letter := batch[n].letter) is not None]
        locks = {append.run for append in batch} | {letter.run for _, letter in letters}
        values += [*_letters(letters), sorted(locks)]
    return values


def _moves(moves: Sequence[tuple[int, Append]]) -> Parameters:
    return [
        [n for n, _ in moves],
        [a.run for _, a in moves],
        [a.epoch for _, a in moves],
        [a.expected for _, a in moves],
        [len(a.events) for _, a in moves],
        [a.status for _, a in moves],
        [a.owner for _, a in moves],
        [a.wake_at for _, a in moves],
        [a.folded for _, a in moves],
        [a.closes for _, a in moves],
    ]


def _creates(creates: Sequence[tuple[int, Append, NewRun]]) -> Parameters:
    return [
        [n for n, _, _ in creates],
        [a.run for _, a, _ in creates],
        [a.epoch for _, a, _ in creates],
        [len(a.events) for _, a, _ in creates],
        [a.status for _, a, _ in creates],
        [a.owner for _, a, _ in creates],
        [a.wake_at for _, a, _ in creates],
        [a.folded for _, a, _ in creates],
        [new.bucket for _, _, new in creates],
        [new.workflow for _, _, new in creates],
        [new.version for _, _, new in creates],
        [new.build for _, _, new in creates],
        [new.digest for _, _, new in creates],
        [new.tenant for _, _, new in creates],
        [new.attributes for _, _, new in creates],
        [new.parent for _, _, new in creates],
        [new.parent_call for _, _, new in creates],
    ]


def _events(
    batch: Sequence[Append], plain_bytes_max: int, store: Callable[[bytes, int], payload.Stored]
) -> Parameters:
    """The first event of an append carries its nonce. Packed columns stay empty when nothing is packed: `unnest` pads."""
    rows = [(n, number, event) for n, append in enumerate(batch) for number, event in enumerate(append.events)]
    stored = [store(event.body, plain_bytes_max) for _, _, event in rows]
    is_packed = any(codec is not None for _, _, codec in stored)
    return [
        [n for n, _, _ in rows],
        [batch[n].expected + number + 1 for n, number, _ in rows],
        [event.at for _, _, event in rows],
        [event.type for _, _, event in rows],
        [event.version for _, _, event in rows],
        [b"" if number else batch[n].nonce for n, number, _ in rows],
        [body for body, _, _ in stored],
        [packed for _, packed, _ in stored] if is_packed else [],
        [codec for _, _, codec in stored] if is_packed else [],
    ]


def _letters(letters: Sequence[tuple[int, Letter]]) -> Parameters:
    return [
        [n for n, _ in letters],
        [letter.run for _, letter in letters],
        [letter.key for _, letter in letters],
        [letter.kind for _, letter in letters],
        [letter.body for _, letter in letters],
    ]
