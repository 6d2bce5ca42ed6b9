"""Every limit of a SQLite store, with its unit and why it has its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqliteSettings:
    """The limits of a SQLite store. Raises ValueError if a value makes no sense.

    Attributes:
        group_max: operations that share one commit, and so wait for the disk together.
        cache_mb: MB of pages that SQLite keeps in memory.
        wal_pages_max: pages of 4 KB in the write-ahead log before they are written back into the file.
        plain_json_bytes_max: JSON bodies up to this size stay readable by SQL; larger ones are compressed.
    """

    group_max: int = 512
    cache_mb: int = 64
    wal_pages_max: int = 4_000
    plain_json_bytes_max: int = 2_560

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ValueError(f"{field.name}={value}: must be more than 0")
