"""Notices: what to tell a webhook. A notice is written by the append that it is about, and kept until it is delivered.

Obligations, each with a case in the conformance suite:
- a notice exists if and only if its append moved; a second one with the same id is not added;
- `take` gives each notice to one of several concurrent callers, and to nobody else for `hold_ms`;
- a notice that was taken and not settled is given out again, to any caller: delivery is at least once;
- taking a notice does not count as a try, because the taker may die before it sends anything. After a failed delivery
  the
  taker calls `postpone`, which counts one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec


class NoticeRow(msgspec.Struct, frozen=True):
    """A notice, as an append writes it.

    Attributes:
        id: unique in the cluster, and the same at every delivery.
        at: when it is due, ms by the database's clock.
        body: a JSON object, as it is sent.
    """

    id: str
    at: int
    body: bytes


class Notice(msgspec.Struct, frozen=True):
    """A notice to deliver. `tries`: the number of failed deliveries, as the latest `postpone` said."""

    id: str
    at: int
    body: bytes
    tries: int


class Notices(Protocol):
    """The queue of notices. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def take(self, *, limit: int, hold_ms: int) -> list[Notice]:
        """Take notices that are due, the oldest first. They are due again in `hold_ms` unless they are settled."""
        ...

    async def postpone(self, notice: str, *, tries: int, delay_ms: int) -> None:
        """Record that `tries` deliveries have failed in all; the notice is due again in `delay_ms`. Idempotent; does
        nothing if the notice is gone.
        """
        ...

    async def settle(self, notices: Sequence[str]) -> None:
        """Delete notices that were delivered or given up."""
        ...
