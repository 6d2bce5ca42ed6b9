"""Typed states on SQLite: see `ports/states.py` for what it promises. Appends write them (`event_log.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pointsman.ports.states import StateRow
from pointsman.stores.queries import load
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "states")


class SqliteStates:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.database.clock

    async def of(self, runs: Sequence[str]) -> dict[str, StateRow]:
        wanted = msgspec.json.encode(list(runs)).decode()
        found = await self._session.call(lambda connection: connection.execute(_SQL["of"], (wanted,)).fetchall())
        return {run: StateRow(version, value.encode(), sequence) for run, version, value, sequence in found}

    async def rewrite(self, run: str, epoch: int, sequence: int, state: StateRow) -> bool:
        now = self._clock.now()

        def work(connection: Connection) -> bool:
            is_same = connection.execute(_SQL["is_at"], (run, epoch, sequence)).fetchone() is not None
            if is_same:
                write(connection, run, state, now)
            return is_same

        return await self._session.call(work)


def write(connection: Connection, run: str, state: StateRow | None, now: int) -> None:
    """Store a run's typed state from now on. Called on the connection's thread."""
    if state is None or not state.version:
        connection.execute(_SQL["delete"], (run,))
    else:
        connection.execute(_SQL["write"], (run, state.version, state.sequence, now, bytes(state.value).decode()))
