"""Find out the outcome of an append whose reply was lost.

The statement may still be under way, on a session whose connection is gone: before its head, at it, or past it. So
every lost session is first ended in the server; once it is gone, nothing can come of it any more. If that is not
allowed (or the server does not show the session), locking the head waits for a statement that has reached it; one that
has not will find that the next append has moved the sequence. Either way, an append that is sent again under its nonce
takes effect once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

import asyncpg

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import Append, Resolution
from pointsman.stores.postgres.connection import Link
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.queries import load

SESSION_END_S = 2.0
POLL_S = 0.005

logger = logging.getLogger("pointsman.postgres")

_SQL = load(__package__, "log")


class Resolver:
    """Resolves appends, over a link of its own: after a lost connection every link reconnects before it is used."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._link = Link(server)

    async def close(self) -> None:
        await self._link.close()

    async def resolve(self, append: Append) -> Resolution:
        """See `ports/event_log.py`."""
        await self._link.call(self._end_lost_sessions)
        return await self._link.call(lambda connection: _look(connection, append))

    async def _end_lost_sessions(self, connection: Connection) -> None:
        lost = set(self._server.lost_sessions)
        deadline = asyncio.get_running_loop().time() + SESSION_END_S
        while lost:
            pids, names = zip(*lost, strict=True)
            remaining = [row["pid"] for row in await connection.fetch(_SQL["lost_sessions"], list(pids), list(names))]
            if not remaining:
                break
            try:
                for pid in remaining:
                    await connection.fetchval(_SQL["end_session"], pid)
            except asyncpg.InsufficientPrivilegeError:
                logger.warning("this role may not end its own sessions: waiting for the head's lock instead")
                break
            if asyncio.get_running_loop().time() > deadline:
                raise StoreUnavailable("a lost session does not end: nothing is known of its append yet")
            await asyncio.sleep(POLL_S)
        self._server.lost_sessions -= lost


async def _look(connection: Connection, append: Append) -> Resolution:
    if append.create is not None:
        await _wait_for_creation(connection, append.run)
    sequence = await connection.fetchval(_SQL["lock_head"], append.run)
    if sequence is None or sequence == append.expected:
        return Resolution.ABSENT
    if not append.events:
        return Resolution.OTHERS
    row = await connection.fetchrow(_SQL["nonce_at"], append.run, append.expected + 1)
    if row is None:
        return Resolution.ABSENT
    if row["nonce"] != append.nonce:
        return Resolution.OTHERS
    # It is visible, but after a crash that does not mean that a synchronous standby has it.
    await connection.execute(_SQL["barrier"], secrets.token_hex(8))
    return Resolution.OURS


async def _wait_for_creation(connection: Connection, run: str) -> None:
    """Wait for a head that is being inserted: it can't be locked, but inserting the same id waits for it. This insert
    is never committed.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(_SQL["try_to_create"], run)
    finally:
        await transaction.rollback()
