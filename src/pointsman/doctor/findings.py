"""What a look at a store gives: findings, in plain words, each with what can be done about it."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["problem", "notice"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Attributes:
        check: which question found it: log, head, state, mail, owner, held, stranded, rows, database.
        level: a problem wants somebody to act; a notice is good to know.
        message: what is wrong.
        run: whose it is, if it is one run's.
        remedy: what to do.
        is_repairable: `repair` can do it.
    """

    check: str
    level: Level
    message: str
    run: str | None = None
    remedy: str = ""
    is_repairable: bool = False


class Counts(msgspec.Struct):
    """How much was looked at. `old`: events of older versions, by type and version; they are upcast on read."""

    runs: int = 0
    events: int = 0
    old: dict[str, int] = {}
