"""Liveness: which coordinators are alive, by the store's clock and never by a node's.

Lease semantics:
- An *incarnation* is one registration of a coordinator. It lives until somebody ends it with a conditional write; the
  first such write wins, and the number is never reused. Runs are owned by incarnations.
- The holder of an incarnation renews its lease. It may trust the lease until (the time when the renewal was *sent*) +
  TTL
  − margin, by its own monotonic clock. After that it stops acting, because others may have ended the incarnation.
- The death of a process is noticed at once where the store supports it (a session lock that the database frees). This
  is
  only a hint: it is confirmed after a short wait, and becomes a fact when the incarnation is ended. An incarnation that
  is merely silent ends when its lease expires.
- A coordinator that has not itself reached the store for a whole TTL does not judge the leases of others. After a
  database
  restart all leases look expired although their holders are well.
- A lost connection ends nothing: the holder takes its lock and lease again under the same incarnation, unless somebody
  ended it.
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
    """The hold on one incarnation. It is renewed in the background until `release`."""

    @property
    def incarnation(self) -> int: ...

    def is_trusted(self) -> bool:
        """Whether the holder may still act. False once the lease has lapsed by its holder's own conservative reckoning,
        or was ended.
        """
        ...

    async def lost(self) -> None:
        """Wait until the incarnation is over: ended by others, or given up by its holder after a lapse. It never comes
        back.

        While the lease has lapsed and is not over yet, `is_trusted` is False; a late renewal makes it True again.
        """
        ...

    async def release(self) -> None:
        """End this incarnation, after its runs were handed over. Idempotent."""
        ...


class Liveness(Protocol):
    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        """Register a new incarnation.

        Raises:
            CoordinatorExists: a live coordinator has this name. (If its process is known to be dead, it is ended
                instead.)
        """
        ...

    async def members(self) -> list[Member]:
        """The living incarnations, by number."""
        ...

    async def next_death(self, own: int) -> int:
        """Wait until the incarnation of another coordinator has ended, or ends because this call found it dead. Returns
        its number.

        May report the same death to several watchers, or return 0 for a mere suspicion: claim orphans and see.
        """
        ...
