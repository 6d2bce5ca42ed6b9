"""Ownership on PostgreSQL: see `ports/ownership.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Definition, Victim
from pointsman.stores.postgres.connection import Link, Pool
from pointsman.stores.queries import load

_SQL = load(__package__, "ownership")


class PostgresOwnership:
    """
    Args:
        readers: for short statements.
        planner: a link that plans claims anew, for the table as it is; a plan made while it was empty would scan it.
    """

    def __init__(self, readers: Pool, planner: Link) -> None:
        self._readers = readers
        self._planner = planner

    async def claim_due(
        self, owner: int, definitions: Sequence[Definition], *, limit: int, runs: Sequence[str] | None = None
    ) -> list[Head]:
        named = None if runs is None else list(runs)
        rows = await self._planner.call(
            lambda connection: connection.fetch(_SQL["claim_due"], owner, *_columns(definitions), limit, named)
        )
        return [Head(*row) for row in rows]

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        rows = await self._planner.call(
            lambda connection: connection.fetch(_SQL["claim_orphans"], owner, *_columns(definitions), limit)
        )
        return [Head(*row[:-1]) for row in rows if row["id"] is not None], rows[0]["orphans_left"]

    async def claim_suspects(
        self, owner: int, definitions: Sequence[Definition], *, together: Sequence[int]
    ) -> list[Head]:
        limits = list(together)
        rows = await self._planner.call(
            lambda connection: connection.fetch(_SQL["claim_suspects"], owner, *_columns(definitions), limits)
        )
        return [Head(*row) for row in rows]

    async def end_trial(self, owner: int) -> None:
        await self._readers.call(lambda connection: connection.execute(_SQL["end_trial"], owner))

    async def died_on_trial(self, run: str) -> list[Victim]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["died_on_trial"], run))
        return [Victim(row["incarnation"], row["name"]) for row in rows]

    async def release(self, run: str) -> bool:
        row = await self._planner.call(lambda connection: connection.fetchrow(_SQL["release"], run))
        return row is not None

    async def dead_owners(self) -> list[int]:
        """Ended incarnations that still own runs."""
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["dead_owners"]))
        return [row["owner"] for row in rows]

    async def owned(self, owner: int) -> Mapping[str, int]:
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["owned"], owner))
        return {row["id"]: row["epoch"] for row in rows}

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        known = list(runs), list(runs.values())
        rows = await self._planner.call(lambda connection: connection.fetch(_SQL["hand_over"], owner, *known))
        return len(rows)

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        known = {(definition.workflow, definition.version) for definition in definitions}
        rows = await self._readers.call(lambda connection: connection.fetch(_SQL["open_versions"]))
        needed = [(row["workflow"], row["version"]) for row in rows]
        return [Definition(workflow, version, "") for workflow, version in needed if (workflow, version) not in known]


def _columns(definitions: Sequence[Definition]) -> tuple[list[str], list[int], list[str]]:
    """Columns of the definitions. The newest of two builds of one version wins: a run must not be picked twice."""
    by_version = {(definition.workflow, definition.version): definition for definition in definitions}
    return (
        [definition.workflow for definition in by_version.values()],
        [definition.version for definition in by_version.values()],
        [definition.build for definition in by_version.values()],
    )
