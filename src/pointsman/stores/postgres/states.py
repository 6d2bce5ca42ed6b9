"""Typed states on PostgreSQL: see `ports/states.py` for what it promises. Appends write them (`rows.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.states import StateRow
from pointsman.stores.postgres.connection import Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "states")


class PostgresStates:
    def __init__(self, readers: Pool) -> None:
        self._readers = readers

    async def of(self, runs: Sequence[str]) -> dict[str, StateRow]:
        found = await self._readers.call(lambda connection: connection.fetch(_SQL["of"], list(runs)))
        return {row["run"]: StateRow(row["version"], row["value"], row["sequence"]) for row in found}

    async def rewrite(self, run: str, epoch: int, sequence: int, state: StateRow) -> bool:
        values = (run, epoch, sequence, state.version, state.sequence, state.value)
        return bool(await self._readers.call(lambda connection: connection.fetch(_SQL["rewrite"], *values)))
