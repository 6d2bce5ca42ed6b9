"""Liveness: which coordinators are alive, by the store's clock and never by a node's.

Lease semantics:
- An *incarnation* is one registration. It lives until somebody ends it, by a conditional write: the first wins, and its
  number never comes back. Runs are owned by incarnations.
- Its holder renews a lease. It may trust the lease until (moment before the renewal was *sent*) + TTL − margin, on
  its own monotonic clock; after that it stops acting, because others may have ended it.
- A process death is noticed at once where the store can (a session lock that the database frees); that is only a hint,
  confirmed after a short wait, and then made a fact by ending the incarnation. A silent one ends when its lease
  expires.
- Whoever has not itself reached the store for a whole TTL judges nobody's lease: after a database restart all
  leases look expired while their holders are well.
- A lost connection ends nothing: the holder takes lock and lease again under the same incarnation, if nobody ended it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.ports.ownership import Definition


class Member(msgspec.Struct, frozen=True):
    """A coordinator as the cluster sees it."""

    incarnation: int
    name: str
    address: str
    started_at: int
    expires_at: int
    definitions: tuple[Definition, ...] = ()
    """What it can drive, as it registered."""


class Lease(Protocol):
    """A hold on one incarnation. Renewed in the background until `release`."""

    @property
    def incarnation(self) -> int: ...

    def is_trusted(self) -> bool:
        """May its holder still act? False once it has lapsed by its own conservative reckoning, or was ended."""
        ...

    async def lost(self) -> None:
        """Returns when the incarnation is over: ended by others, or given up by its holder after a lapse. It never
        comes back. While a lease has lapsed and is not over yet, `is_trusted` says no, and a late renewal says
        yes again.
        """
        ...

    async def release(self) -> None:
        """End this incarnation, after its runs were handed over. Twice is once."""
        ...


class Liveness(Protocol):
    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        """A new incarnation.

        Raises:
            CoordinatorExists: a live coordinator has this name. One whose process is known to be dead is ended instead.
        """
        ...

    async def members(self) -> list[Member]:
        """The living incarnations, by number."""
        ...

    async def next_death(self, own: int) -> int:
        """Wait until an incarnation of another has ended, or ends because this call found it dead; return its number.

        May return the same death to several watchers, or 0 when it only suspects one: claim orphans and see.
        """
        ...
