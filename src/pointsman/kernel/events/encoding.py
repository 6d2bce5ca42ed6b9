"""How events become bytes and back: a JSON header, and behind it the bytes of an input that stands in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.kernel.errors import CorruptLog, UnknownEvent
from pointsman.kernel.events.base import Event, Recorded
from pointsman.kernel.events.causes import RunStarted
from pointsman.kernel.events.registry import EVENT_TYPES
from pointsman.kernel.events.requests import CallRequested, ChildStarted
from pointsman.kernel.pieces import INLINE_BYTES_MAX, literal, split_body
from pointsman.kernel.values import digest

header_of: Callable[[Event], bytes] = msgspec.json.Encoder().encode
"""The JSON header of an event, which is its body where no input of it stands in pieces."""
_decoders: dict[str, msgspec.json.Decoder[Any]] = {name: msgspec.json.Decoder(cls) for name, cls in EVENT_TYPES.items()}


def with_input(event_type: type[Any], data: bytes, **fields: Any) -> tuple[Any, bytes]:
    """An event with an input, and the tail of its body: empty when the input is small and stays whole; a large one is a
    literal."""
    if len(data) <= INLINE_BYTES_MAX:
        return event_type(input=msgspec.Raw(data), **fields), b""
    return event_type(pieces=literal(data), digest=digest(data), **fields), data


def same_bytes(event: RunStarted | CallRequested | ChildStarted, data: bytes) -> bool:
    """Is `data` what the event recorded? Told by the digest where the input stands in pieces."""
    return event.digest == digest(data) if event.pieces else bytes(event.input) == data


def encode_event(event: Event, tail: bytes = b"") -> bytes:
    """The body of an event, as stored."""
    header = header_of(event)
    return header + b"\n" + tail if tail else header


def decode_event(recorded: Recorded) -> Event:
    """The event of a stored body of today's version; older versions go through `upcast.py` first.

    Raises:
        UnknownEvent: a type or version that this release does not know; a newer one will.
        CorruptLog: a body that is not of its type. A released version never changes, so no other code would fit it.
    """
    decoder = _decoders.get(recorded.type)
    if decoder is None or recorded.version != EVENT_TYPES[recorded.type].VERSION:
        raise UnknownEvent(
            f"event {recorded.sequence} is a {recorded.type} v{recorded.version}, which this release does not know: "
            "deploy a newer release of Pointsman"
        )
    try:
        event: Event = decoder.decode(split_body(recorded.body)[0])
    except msgspec.MsgspecError as error:
        raise CorruptLog(f"event {recorded.sequence} is not a {recorded.type}: {error}") from error
    return event
