"""The PostgreSQL store against the suite."""

import asyncio

import asyncpg
import pytest

from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store
from pointsman.stores.postgres import PostgresSettings, PostgresStore, migrate
from pointsman.stores.postgres.lease import PostgresLease
from pointsman.testing.conformance import CASES, Case, Harness, case_name, run_case

SETTINGS = PostgresSettings(loop_stall_exits=False)


class PostgresHarness(Harness):
    def __init__(self, dsn: str) -> None:
        super().__init__()
        self._dsn = dsn

    def new_store(self) -> Store:
        return PostgresStore(self._dsn, SETTINGS)

    async def freeze(self, store: Store, lease: Lease) -> None:
        """A main loop that shows no life: the lease's thread stops renewing, and its connection stays."""
        assert isinstance(lease, PostgresLease)
        assert lease.heartbeat is not None
        lease.heartbeat.cancel()
        await asyncio.wait((lease.heartbeat,))

    async def end(self, incarnation: int) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            ended = await connection.fetchval(
                "UPDATE coordinators SET ended_at = now() WHERE incarnation = $1 AND ended_at IS NULL RETURNING 1", incarnation
            )
            assert ended == 1
        finally:
            await connection.close()


@pytest.mark.postgres
@pytest.mark.parametrize("case", CASES, ids=case_name)
async def test_conformance(case: Case, fresh_database: str) -> None:
    await migrate(fresh_database)
    await run_case(case, PostgresHarness(fresh_database))
