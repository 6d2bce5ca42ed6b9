"""The checksum of every event, chained over its run: a row that was changed, lost, moved or exchanged is seen.

An event's checksum is a CRC-32 over the checksum before it, its sequence, time, epoch, type, version and its body as it
was appended (before compression). The first event chains from the run's id. So it stands for everything up to it.

CRC-32, because it is there to see accidents, a careless UPDATE or a bad restore, not a forger: it finds every change
within 32 bits in a row for certain, and misses one of 4 billion others. It costs a step of two events 0.7 µs and 8
bytes of the database's log (measured); SHA-256 takes twice as long, and 64 bits cost 16 bytes.
"""

from __future__ import annotations

from struct import Struct
from zlib import crc32

import msgspec

from pointsman.kernel.events import Recorded

KINDS_MAX = 1_000

pack_place = Struct("<qqi").pack
"""Time, epoch and sequence of an event, as bytes."""


class _Kinds(dict[tuple[str, int], int]):
    """The CRC of each type with its version. A damaged log may bring any number of names: those are not kept."""

    def __missing__(self, kind: tuple[str, int]) -> int:
        value = crc32(b"%b %d" % (kind[0].encode(), kind[1]))
        if len(self) < KINDS_MAX:
            self[kind] = value
        return value


_kinds = _Kinds()


def salt(kind: str, version: int) -> int:
    """What a type and version put into a checksum."""
    return _kinds[kind, version]


def beginning(run: str) -> int:
    """What the first event of a run chains from."""
    return crc32(run.encode())


def following(previous: int, sequence: int, at: int, kind: str, version: int, epoch: int, body: bytes) -> int:
    """The checksum of an event that comes after one with the checksum `previous`; `kind` is its type.

    `coordinator/driving/draft.py` repeats this inline: a call for each event would cost 0.3 µs a step.
    """
    return crc32(body, crc32(pack_place(at, epoch, sequence), previous ^ _kinds[kind, version]))


class Damage(msgspec.Struct, frozen=True):
    """What is wrong at a place of a stream.

    Attributes:
        sequence: the first event that can't be trusted.
        kind: missing, changed, unreadable, beyond_head.
        message: what was expected and what was found, for people.
    """

    sequence: int
    kind: str
    message: str


class Chain:
    """Goes along a stream, row by row and page by page, and says what is wrong with it.

    Attributes:
        sequence, checksum: of the last row seen, whatever was wrong with it.

    Args:
        sequence, checksum: of the event before the first one to look at; without them, from the run's beginning. A
            sequence without a checksum: the first row is taken on trust, and what follows must fit it.
    """

    def __init__(self, run: str, sequence: int = 0, checksum: int | None = None) -> None:
        self.sequence = sequence
        self.checksum = beginning(run) if sequence == 0 else checksum

    def look(self, row: Recorded) -> Damage | None:
        """The next row. What is wrong with it, or before it."""
        expected, previous = self.sequence + 1, self.checksum
        self.sequence, self.checksum = row.sequence, row.checksum
        if row.sequence != expected:
            return Damage(expected, "missing", f"event {expected} is missing (the log goes on with {row.sequence})")
        if row.damage:
            return Damage(expected, "unreadable", f"event {expected}, a {row.type}, can't be read: {row.damage}")
        if previous is None:
            return None
        found = following(previous, row.sequence, row.at, row.type, row.version, row.epoch, row.body)
        if found == row.checksum:
            return None
        return Damage(
            expected, "changed",
            f"event {expected}, a {row.type}, is not what was appended: its row says checksum {row.checksum:08x}, its "
            f"content and the event before it give {found:08x}",
        )  # fmt: skip

    def end(self, head: int) -> Damage | None:
        """The stream is over, and its head says that it has `head` events."""
        if self.sequence < head:
            last = f"event {self.sequence}" if self.sequence else "nothing at all"
            return Damage(
                self.sequence + 1, "missing", f"the head says that there are {head} events, the log ends with {last}"
            )
        return None


def beyond(row: Recorded, head: int) -> Damage | None:
    """Is this row one that the head does not know of?"""
    if row.sequence <= head:
        return None
    return Damage(
        head + 1, "beyond_head",
        f"the head says that there are {head} events, and the log has event {row.sequence}, a {row.type}",
    )  # fmt: skip


def first_damage(run: str, recorded: list[Recorded], head: int, after: int = 0) -> Damage | None:
    """What is wrong with a stream, whose head says that it has `head` events, behind event `after`; the first place
    counts."""
    chain = Chain(run, after)
    for row in recorded:
        damage = beyond(row, head) or chain.look(row)
        if damage is not None:
            return damage
    return chain.end(head)
