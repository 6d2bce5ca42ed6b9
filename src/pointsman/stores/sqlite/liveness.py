"""Liveness on SQLite: the living are known in memory; all that ever lived are stored, with the trial they died in."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.clock import Clock
from pointsman.ports.liveness import Lease
from pointsman.ports.ownership import Definition
from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.queries import load
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "ownership")


class SqliteLiveness(InProcessLiveness):
    def __init__(self, session: Session, clock: Clock) -> None:
        super().__init__(session, clock)
        self._file = session

    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        lease = await super().register(name, address, definitions, ttl_ms=ttl_ms)
        row = (lease.incarnation, name, address, self._file.database.clock.now())
        try:
            await self._file.call(lambda connection: connection.execute(_SQL["enlist"], row).rowcount)
        except BaseException:
            await lease.release()
            raise
        return lease
