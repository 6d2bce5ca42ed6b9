"""Convert rows to the ports' values."""

from __future__ import annotations

from typing import Any

import msgspec

from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Head, NewEvent
from pointsman.stores import payload

ATTRIBUTES, COLUMNS = 13, len(Head.__struct_fields__)
"""The index of the attributes among a head's columns, and the number of columns."""

Row = tuple[Any, ...]


def head(row: Row) -> Head:
    fields = list(row[:COLUMNS])
    fields[ATTRIBUTES] = msgspec.json.decode(fields[ATTRIBUTES])
    return Head(*fields)


def recorded(row: Row) -> Recorded:
    """The event of a row with the `event_columns` of `log.sql`."""
    sequence, at, type_, version, epoch, checksum, codec, body, packed = row
    data, damage = b"", ""
    try:
        data = payload.load((body or "").encode(), packed or b"", codec)
    except CorruptLog as error:
        damage = str(error)
    return Recorded(sequence, at, type_, version, data, epoch, checksum, damage)


def size(row: Row) -> int:
    """The bytes of an event's body as stored. `row`: as for `recorded`."""
    *_, body, packed = row
    text = 0 if body is None else len(body) if body.isascii() else len(body.encode())
    return text + len(packed or b"")


def stored(event: NewEvent, plain_bytes_max: int) -> tuple[int, str | None, bytes | None]:
    """Codec, body, packed. A body that is not certainly text stays bytes."""
    plain, packed, codec = payload.store(event.body, plain_bytes_max)
    if plain is not None and payload.is_json(plain):
        return payload.PLAIN, plain.decode(), None
    if plain is not None:
        _, packed, codec = payload.pack(plain)
    return codec or payload.RAW, None, packed
