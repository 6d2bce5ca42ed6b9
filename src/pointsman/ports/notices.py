"""Notices: what a webhook is to be told of, written by the appends that it is about, and there until it was delivered.

Obligations, each with a case in the conformance suite:
- a notice is there exactly if its append moved; said again under the same id, it is one;
- `take` gives each to one of those who ask at the same time, and to nobody for `hold_ms` after that;
- what was taken and not settled comes again, whoever took it: a notice is told at least once;
- taking is no try: who took may never have heard of it. Whoever told in vain says so, with `postpone`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class NoticeRow(msgspec.Struct, frozen=True):
    """What an append says to tell.

    Attributes:
        id: unique in the cluster, and the same however often it is told.
        at: ms by the database's clock; from then on it is due.
        body: a JSON object, as it is sent.
    """

    id: str
    at: int
    body: bytes


class Notice(msgspec.Struct, frozen=True):
    """A notice to tell. `tries`: how often it was told in vain, as the latest `postpone` says."""

    id: str
    at: int
    body: bytes
    tries: int


class Notices(Protocol):
    """Every method raises `StoreUnavailable` when the store can't be reached."""

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        """Notices that are due, the oldest first; they are due again in `hold_ms`, unless they are settled."""
        ...

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        """It was told in vain `tries` times in all, and is due again in `delay_ms`. Said twice, it counts once. One
        that is not there is none."""
        ...

    async def settle(self, notices: Sequence[str]) -> None:
        """They are not told any more."""
        ...
