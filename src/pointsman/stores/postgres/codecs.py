"""Codecs of a connection: `json` as its bytes, `jsonb` as Python values, times as ms since 1970."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pointsman.kernel import values

if TYPE_CHECKING:
    import asyncpg

EPOCH_MS = 946_684_800_000
"""The start of 2000, from which PostgreSQL counts microseconds."""


async def set_codecs(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Set the codecs. `json` is read in binary, where it is just its text: it comes back byte for byte as appended."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=_same, decoder=bytes, format="binary")
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_to_jsonb, decoder=msgspec.json.decode, format="text"
    )
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_to_time, decoder=_from_time, format="tuple"
    )


def _same(value: bytes) -> bytes:
    return value


def _to_jsonb(value: Any) -> str:
    """Encode a value. Refuses what `json` accepts and `jsonb` does not, and what an encoder would change silently."""
    return values.encode(value).decode() if value else "{}"


def _to_time(ms: int) -> tuple[int]:
    return ((ms - EPOCH_MS) * 1000,)


def _from_time(value: tuple[int]) -> int:
    return value[0] // 1000 + EPOCH_MS
