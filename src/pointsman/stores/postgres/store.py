"""A PostgreSQL store: the ports of one coordinator over connections of its own."""

from __future__ import annotations

import asyncio
import time

from pointsman.stores.postgres.appending import Appender
from pointsman.stores.postgres.board import PostgresBoard
from pointsman.stores.postgres.clock import PostgresClock
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.postgres.event_log import PostgresEventLog
from pointsman.stores.postgres.human_tasks import PostgresHumanTasks
from pointsman.stores.postgres.inspection import PostgresInspection
from pointsman.stores.postgres.liveness import PostgresLiveness
from pointsman.stores.postgres.mailbox import PostgresMailbox
from pointsman.stores.postgres.migrate import check_schema
from pointsman.stores.postgres.notices import PostgresNotices
from pointsman.stores.postgres.ownership import PostgresOwnership
from pointsman.stores.postgres.partitions import bucket_of, make_partitions
from pointsman.stores.postgres.reservations import PostgresReservations
from pointsman.stores.postgres.resolving import Resolver
from pointsman.stores.postgres.retention import PostgresRetention
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.postgres.settings import PostgresSettings
from pointsman.stores.postgres.states import PostgresStates
from pointsman.stores.postgres.system_log import PostgresSystemLog
from pointsman.stores.postgres.wakeup import PostgresWakeup
from pointsman.stores.queries import load

CLOCK_READINGS = 3

_SQL = load(__package__, "liveness")


class PostgresStore:
    """See `ports/store.py`.

    Args:
        dsn: in libpq's format; of several hosts, the one that takes writes is used.
    """

    def __init__(self, dsn: str, settings: PostgresSettings | None = None) -> None:
        self._server = Server(dsn, settings or PostgresSettings())
        self._readers = Pool(self._server, self._server.settings.readers, {"enable_seqscan": "off"})
        self._planner = Link(self._server, {"plan_cache_mode": "force_custom_plan"})
        self._appender = Appender(self._server, self._readers)
        self._resolver = Resolver(self._server)
        self.clock = PostgresClock()
        self.log = PostgresEventLog(self._appender, self._resolver, self._readers, self._planner)
        self.mailbox = PostgresMailbox(self._readers)
        self.ownership = PostgresOwnership(self._readers, self._planner)
        self.liveness = PostgresLiveness(self._server, self.clock, self._readers, self.ownership)
        self.wakeup = PostgresWakeup(
            self._server,
            {"pointsman_enlisted": self.liveness.was_enlisted, "pointsman_ended": self.liveness.was_ended},
        )
        self.system = PostgresSystemLog(self._readers, self._server.settings.plain_json_bytes_max)
        self.board = PostgresBoard(self._readers)
        self.human_tasks = PostgresHumanTasks(self._readers, self._planner)
        self.notices = PostgresNotices(self._readers)
        self.reservations = PostgresReservations(self._readers)
        self.states = PostgresStates(self._readers)
        self.retention = PostgresRetention(self._server, self._readers)
        self.inspection = PostgresInspection(Link(self._server, {"plan_cache_mode": "force_custom_plan"}))

    @property
    def description(self) -> str:
        return self._server.description

    async def open(self) -> None:
        """Connect and check the schema. Raises SchemaMissing, SchemaFromFuture, SchemaDiffers, StoreUnavailable."""
        await self._readers.call(check_schema)
        await self._readers.call(make_partitions)
        for _ in range(CLOCK_READINGS):
            await self._readers.call(self._read_clock)
        await asyncio.gather(self._appender.warm_up(), self._readers.warm_up())
        self.wakeup.start(await self._readers.call(lambda connection: connection.fetchval(_SQL["schema_key"])))
        await self.wakeup.listening()

    async def close(self) -> None:
        """Let go of leases without ending them; others judge those that were not released."""
        if self._server.is_closed:
            return
        await self.wakeup.flush()
        self._server.is_closed = True
        await self.liveness.stop()
        await self.wakeup.stop()
        await self._appender.close()
        await self._resolver.close()
        await self._planner.close()
        await self.retention.close()
        await self.inspection.close()
        await self._readers.close()

    def bucket(self) -> int:
        return bucket_of(self.clock.now())

    async def _read_clock(self, connection: Connection) -> None:
        sent = time.monotonic()
        now_ms = await connection.fetchval(_SQL["now"])
        self.clock.measured(now_ms, sent, time.monotonic())
