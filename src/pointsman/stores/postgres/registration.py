"""Registration of a new incarnation, under a name that no living one has."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from pointsman.kernel.errors import CoordinatorExists
from pointsman.stores.postgres.confirming import until_surely_dead
from pointsman.stores.postgres.connection import Link
from pointsman.stores.postgres.server import Connection, Server
from pointsman.stores.queries import load

_SQL = load(__package__, "liveness")


@dataclass(frozen=True)
class Registration:
    name: str
    address: str
    definitions: str
    """JSON."""
    ttl_ms: int


async def register(link: Link, server: Server, key: int, wanted: Registration) -> tuple[int, int]:
    """Register a new incarnation, whose lock the link's session then holds. Returns it and the database's time.

    Raises:
        CoordinatorExists, StoreUnavailable.
    """
    while True:
        registered = await link.call(lambda connection: _enlist(connection, key, wanted))
        if registered is not None:
            return registered
        await _clear_name(link, server, key, wanted.name)


async def _enlist(connection: Connection, key: int, wanted: Registration) -> tuple[int, int] | None:
    """Insert the incarnation; its lock is taken first, or it would be found dead. None: the name is taken."""
    incarnation: int = await connection.fetchval(_SQL["next_incarnation"])
    await connection.fetchval(_SQL["lock"], key, incarnation)
    now_ms: int | None = await connection.fetchval(
        _SQL["enlist"], incarnation, wanted.name, wanted.address, wanted.definitions, wanted.ttl_ms
    )
    if now_ms is not None:
        return incarnation, now_ms
    await connection.fetchval(_SQL["unlock"], key, incarnation)
    return None


async def _clear_name(link: Link, server: Server, key: int, name: str) -> None:
    """End the holder of the name if its process is known to be dead: its lock is free, and stays free for a while."""
    holder = await link.call(lambda connection: connection.fetchrow(_SQL["namesake"], name))
    if holder is None:
        return
    if await _is_free(link, key, holder):
        await until_surely_dead(holder["address"], server.settings)
        if await link.call(
            lambda connection: connection.fetchval(
                _SQL["end_if_free"], key, holder["incarnation"], holder["incarnation"]
            )
        ):
            return
    raise CoordinatorExists(
        f"coordinator {name!r} is alive at {holder['address'] or 'an unknown address'} "
        f"(incarnation {holder['incarnation']}): give this one another --name, "
        "or stop the other; one that hangs is ended when its lease expires"
    )


async def _is_free(link: Link, key: int, holder: asyncpg.Record) -> bool:
    return bool(await link.call(lambda connection: connection.fetchval(_SQL["is_free"], key, holder["incarnation"])))
