"""Cursors: positions that callers hand back without a look inside, and that may come from anybody."""

from __future__ import annotations

import base64
from typing import Any, Final, TypeVar

import msgspec

from pointsman.kernel.errors import InvalidCursor

BIGINT_MAX: Final = 2**63 - 1

T = TypeVar("T", bound=tuple[Any, ...])


def encode(*parts: int | str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def decode(cursor: str, shape: type[T]) -> T:
    """The parts of a cursor.

    Raises:
        InvalidCursor: it is none of this shape; or a number in it is negative, or more than the database can hold.
    """
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        parts: T = msgspec.json.decode(raw, type=shape)
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidCursor("this is not a cursor that this store gave") from error
    if any(isinstance(part, int) and not 0 <= part <= BIGINT_MAX for part in parts):
        raise InvalidCursor("this is not a cursor that this store gave")
    return parts
