"""Old events read as today's: one plain function from each version of a type to the next.

Stored bytes are never rewritten. An upcaster gets the decoded header of version n and returns that of version n + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.events import EVENT_TYPES, Event, Recorded, decode_event
from pointsman.kernel.pieces import split_body

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

UPCASTERS: Mapping[tuple[str, int], Upcaster] = {}
"""(type, version it reads) -> function. Empty while every event is at its first version."""


def read_event(recorded: Recorded, upcasters: Mapping[tuple[str, int], Upcaster] = UPCASTERS) -> Event:
    """The event of a stored row, whatever version it was written in.

    Raises:
        UnknownEvent: from the future. CorruptLog: damaged.
    """
    today = EVENT_TYPES.get(recorded.type)
    if today is None or recorded.version >= today.VERSION:
        return decode_event(recorded)
    header, tail = split_body(recorded.body)
    try:
        fields = msgspec.json.decode(header)
    except msgspec.MsgspecError as error:
        raise CorruptLog(f"event {recorded.sequence} is not a {recorded.type}: {error}") from error
    version = recorded.version
    while version < today.VERSION and (upcaster := upcasters.get((recorded.type, version))):
        fields = upcaster(fields)
        version += 1
    body = msgspec.json.encode(fields)
    return decode_event(msgspec.structs.replace(recorded, version=version, body=body + b"\n" + tail if tail else body))
