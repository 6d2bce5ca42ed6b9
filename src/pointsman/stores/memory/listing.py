"""Listing heads by filter, newest first, page by page."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import InvalidCursor
from pointsman.ports.event_log import Head, RunFilter
from pointsman.stores.checks import check_text, contains
from pointsman.stores.memory.database import HeadRow

Key = tuple[int, str]


def list_heads(
    rows: Iterable[HeadRow], where: RunFilter, limit: int, cursor: str | None
) -> tuple[list[Head], str | None]:
    """The page of heads after `cursor`, and the cursor behind it.

    Raises:
        InvalidCursor. InvalidValue: a filter that no head could ever meet because no store can hold it.
    """
    check_text(*where.status, where.workflow or "", where.tenant or "")
    wanted = msgspec.json.decode(values.encode(dict(where.attributes)))
    after = _decode_cursor(cursor) if cursor is not None else None
    found = [row for row in rows if (after is None or _key(row) < after) and _matches(row, where, wanted)]
    found.sort(key=_key, reverse=True)
    page = found[: max(limit, 1)]
    return [row.head() for row in page], _encode_cursor(_key(page[-1])) if len(found) > len(page) else None


def _key(row: HeadRow) -> Key:
    return row.created_at, row.id


def _matches(row: HeadRow, where: RunFilter, wanted: dict[str, Any]) -> bool:
    return (
        (not where.status or row.status in where.status)
        and (where.workflow is None or row.new.workflow == where.workflow)
        and (where.tenant is None or row.new.tenant == where.tenant)
        and (not wanted or contains(msgspec.json.decode(row.attributes), wanted))
    )


def _encode_cursor(key: Key) -> str:
    return urlsafe_b64encode(msgspec.json.encode(key)).decode()


def _decode_cursor(cursor: str) -> Key:
    try:
        created_at, run = msgspec.json.decode(urlsafe_b64decode(cursor), type=Key)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise InvalidCursor("this is not a cursor that a listing gave") from None
    if _encode_cursor((created_at, run)) != cursor:
        raise InvalidCursor("this is not a cursor that a listing gave")
    return created_at, run
