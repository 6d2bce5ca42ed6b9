"""Convert what is stored in Redis to the ports' values, and back."""

from __future__ import annotations

from typing import Any

import msgspec

from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Head, NewEvent
from pointsman.ports.states import StateRow
from pointsman.stores import payload

INTEGERS = frozenset(
    {"version", "sequence", "epoch", "mail", "folded", "takeovers", "bucket", "created_at", "updated_at", "base",
     "generation"}
)  # fmt: skip
NULLABLE = frozenset({"owner", "wake_at", "ended_at"})
FIELDS = Head.__struct_fields__

Stored = tuple[int, int, str, int, int, int, int, bytes, bytes]
"""An event: sequence, at, type, version, epoch, checksum, codec, body, nonce."""
_decoder = msgspec.msgpack.Decoder(Stored)


def fields(flat: list[bytes]) -> dict[str, str]:
    return {flat[n].decode(): flat[n + 1].decode() for n in range(0, len(flat), 2)}


def head(row: list[Any]) -> Head:
    """The head in a row: the id, and the unchanged hash."""
    found = fields(row[1])
    out: dict[str, Any] = {"id": row[0].decode(), "attributes": msgspec.json.decode(found["attributes"])}
    for name in FIELDS:
        if name in INTEGERS:
            out[name] = int(found[name])
        elif name in NULLABLE:
            out[name] = int(found[name]) if found[name] else None
        elif name == "parent":
            out[name] = found[name] or None
        elif name not in out:
            out[name] = found[name]
    return Head(**out)


def stored(event: NewEvent, sequence: int, epoch: int, nonce: bytes, plain_bytes_max: int) -> bytes:
    if len(event.body) <= plain_bytes_max:
        codec, body = payload.RAW, event.body
    else:
        _, packed, marked = payload.pack(event.body)
        codec, body = marked or payload.RAW, packed or b""
    row: Stored = (sequence, event.at, event.type, event.version, epoch, event.checksum, codec, bytes(body), nonce)
    return msgspec.msgpack.encode(row)


def recorded(raw: bytes, sequence: int) -> Recorded:
    """The event at this sequence of a stream."""
    try:
        number, at, type_, version, epoch, checksum, codec, body, _ = _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        return Recorded(sequence, 0, "", 0, b"", damage=f"an event is damaged: {error}")
    try:
        return Recorded(number, at, type_, version, payload.load(b"", body, codec), epoch, checksum)
    except CorruptLog as error:
        return Recorded(number, at, type_, version, b"", epoch, checksum, str(error))


def nonce(raw: bytes) -> bytes:
    try:
        (*_, found) = _decoder.decode(raw)
        return bytes(found)
    except msgspec.MsgspecError:
        return b""


def state(raw: bytes) -> StateRow:
    version, sequence, value = raw.split(b" ", 2)
    return StateRow(int(version), value, int(sequence))
