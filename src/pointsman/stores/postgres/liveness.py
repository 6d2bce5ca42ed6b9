"""Liveness on PostgreSQL: see `ports/liveness.py` for what it promises; `lease.py` holds, `watch.py` judges others."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from pointsman.ports.liveness import Lease, Member
from pointsman.ports.ownership import Definition
from pointsman.stores.postgres.clock import PostgresClock
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.postgres.lease import PostgresLease
from pointsman.stores.postgres.ownership import PostgresOwnership
from pointsman.stores.postgres.registration import Registration
from pointsman.stores.postgres.server import Server
from pointsman.stores.postgres.watch import Watch
from pointsman.stores.queries import load

_SQL = load(__package__, "liveness")
_definitions = msgspec.json.Decoder(tuple[Definition, ...])


class PostgresLiveness:
    def __init__(self, server: Server, clock: PostgresClock, readers: Pool, ownership: PostgresOwnership) -> None:
        self._server = server
        self._clock = clock
        self._readers = readers
        self._ownership = ownership
        self._leases: dict[int, PostgresLease] = {}
        self._ttl_ms: dict[int, int] = {}
        self._watch: Watch | None = None
        self._key: int | None = None

    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        described = msgspec.json.encode(list(definitions)).decode()
        wanted = Registration(name, address, described, ttl_ms)
        lease = PostgresLease(self._server, self._clock, await self._lock_class(), wanted)
        await lease.hold()
        self._leases[lease.incarnation] = lease
        self._ttl_ms[lease.incarnation] = ttl_ms
        return lease

    async def members(self) -> list[Member]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["members"]))
        return [
            Member(
                row["incarnation"],
                row["name"],
                row["address"],
                row["started_at"],
                row["expires_at"],
                _definitions.decode(row["definitions"]),
            )
            for row in rows
        ]

    async def next_death(self, own: int) -> int:
        self._server.check_open()
        if self._watch is None or self._watch.own != own:
            if self._watch is not None:
                await self._watch.stop()
            lease = self._leases.get(own)
            self._watch = Watch(
                self._server, self._readers, await self._lock_class(), own,
                (lambda: 0) if lease is None else lease.in_touch_ms, self._ttl_ms.get(own, 0),
                self._ownership.dead_owners,
            )  # fmt: skip
            self._watch.start()
        return await self._watch.next_death()

    def was_enlisted(self, incarnation: int) -> None:
        """Note that an incarnation has joined; all others are told as it commits, so that one watches it at once."""
        if self._watch is not None:
            self._watch.was_enlisted(incarnation)

    def was_ended(self, incarnation: int) -> None:
        """Note that an incarnation was ended; all survivors are told as it commits, so that they share its runs."""
        if self._watch is not None:
            self._watch.was_ended(incarnation)

    async def stop(self) -> None:
        """Let go of everything without telling anybody, like the end of a process."""
        if self._watch is not None:
            await self._watch.stop()
        for lease in self._leases.values():
            await lease.let_go()

    async def _lock_class(self) -> int:
        """The first half of the keys of all our advisory locks: it keeps two schemas of one database apart."""
        if self._key is None:
            schema: str = await self._readers.call(lambda connection: connection.fetchval(_SQL["schema_key"]))
            self._key = zlib.crc32(f"pointsman {schema}".encode()) - 2**31
        return self._key
