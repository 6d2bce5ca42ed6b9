"""Liveness in one process: see `ports/liveness.py` for what it promises.

A process is this store's session: `close` without `release` frees its lock, as the end of a process does, and
so does `Membership.sever`. A holder that falls silent keeps its lock, and ends when its lease expires by
the database's clock. A `renew` that is delayed, or raises `StoreUnavailable`, is a holder cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.kernel.errors import CoordinatorExists
from pointsman.ports.clock import Clock
from pointsman.ports.liveness import Lease, Member
from pointsman.ports.ownership import Definition
from pointsman.stores.inprocess.lease import InProcessLease
from pointsman.stores.inprocess.membership import IncarnationRow
from pointsman.stores.inprocess.session import Session

CONFIRM_S = 0.15
"""How long a freed lock must stay free before its incarnation is ended."""


class InProcessLiveness:
    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._database = session.database
        self._clock = clock
        self._leases: list[InProcessLease] = []
        self._deaths_seen = len(self._database.deaths)
        self._reached_since: float | None = None
        self._reached_at = 0.0

    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        await self._session.enter()
        for row in [row for row in self._database.living() if row.name == name]:
            if not row.severed and row.expires_at > self._database.clock.now():
                raise CoordinatorExists(
                    f"coordinator {name!r} is alive at {row.address or 'an unknown address'}; "
                    "give this one another --name, or stop the other"
                )
            self._database.end(row.number)
        sent = self._clock.monotonic()
        row = self._database.register(name, address, definitions, ttl_ms)
        self._reached(sent, ttl_ms)
        lease = InProcessLease(row.number, ttl_ms, sent, self._clock, self.renew, self._end)
        self._leases.append(lease)
        await asyncio.sleep(0)
        return lease

    async def members(self) -> list[Member]:
        await self._session.enter()
        members = [
            Member(row.number, row.name, row.address, row.started_at, row.expires_at, row.definitions)
            for row in self._database.living()
        ]
        await asyncio.sleep(0)
        return members

    async def next_death(self, own: int) -> int:
        while True:
            await self._session.enter()
            deaths = self._database.deaths
            while self._deaths_seen < len(deaths):
                self._deaths_seen += 1
                if deaths[self._deaths_seen - 1] != own:
                    return deaths[self._deaths_seen - 1]
            await self._look_around([row for row in self._database.living() if row.number != own])

    async def renew(self, incarnation: int) -> bool:
        """Extend a lease and take its lock again; False when it has been ended.

        Raises:
            StoreUnavailable: the store is closed.
        """
        await self._session.enter()
        row = self._database.incarnations[incarnation]
        if not row.ended:
            row.expires_at = self._database.clock.now() + row.ttl_ms
            row.severed = False
            self._reached(self._clock.monotonic(), row.ttl_ms)
        await asyncio.sleep(0)
        return not row.ended

    async def stop(self) -> None:
        """Stop renewing, without a word to anybody: what the end of a process does."""
        for lease in self._leases:
            await lease.stop()
            self._database.sever(lease.incarnation)
        self._leases.clear()

    # -- watching others -------------------------------------------------------------------------------------

    async def _look_around(self, others: list[IncarnationRow]) -> None:
        """End one that is found dead, or wait for a change or until the next lease may have expired."""
        severed = next((row for row in others if row.severed), None)
        if severed is not None:
            await asyncio.sleep(CONFIRM_S)
            if severed.severed:
                self._database.end(severed.number)
            return
        if not others:
            await self._database.membership_change(None)
            return
        first = min(others, key=lambda row: row.expires_at)
        left_ms = first.expires_at - self._database.clock.now()
        if left_ms > 0:
            await self._database.membership_change((left_ms + 1) / 1000)
        elif self._may_judge(first):
            self._database.end(first.number)
        else:
            await self._database.membership_change(first.ttl_ms / 5000)

    def _may_judge(self, other: IncarnationRow) -> bool:
        """Only who has itself reached the database, without a break, for a whole TTL."""
        now, ttl_s = self._clock.monotonic(), other.ttl_ms / 1000
        since = self._reached_since
        return since is not None and now - since >= ttl_s and now - self._reached_at < ttl_s

    def _reached(self, at: float, ttl_ms: int) -> None:
        if self._reached_since is None or at - self._reached_at >= ttl_ms / 1000:
            self._reached_since = at
        self._reached_at = at

    async def _end(self, incarnation: int) -> None:
        await self._session.enter()
        self._database.end(incarnation)
        await asyncio.sleep(0)
