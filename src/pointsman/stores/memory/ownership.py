"""Ownership in the memory store: see `ports/ownership.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Definition
from pointsman.stores.memory.database import HeadRow
from pointsman.stores.memory.session import Session

Builds = dict[tuple[str, int], str]


class MemoryOwnership:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def claim_due(
        self, owner: int, definitions: Sequence[Definition], *, limit: int, runs: Sequence[str] | None = None
    ) -> list[Head]:
        await self._session.enter()
        claimed: list[Head] = []
        if self._may_claim(owner):
            builds = _builds(definitions)
            due = [row for row in self._open(runs) if self._is_due(row, builds)]
            due.sort(key=_by_wake_time)
            claimed = [self._claim(row, owner, builds) for row in due[: max(limit, 0)]]
        await asyncio.sleep(0)
        return claimed

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        await self._session.enter()
        builds = _builds(definitions)
        orphans = [row for row in self._open(None) if self._is_orphan(row, builds)]
        taken = orphans[: max(limit, 0)] if self._may_claim(owner) else []
        for row in taken:
            row.takeovers += 1
        claimed = [self._claim(row, owner, builds) for row in taken]
        await asyncio.sleep(0)
        return claimed, len(orphans) - len(claimed)

    async def owned(self, owner: int) -> list[str]:
        await self._session.enter()
        owned = [row.id for row in self._open(None) if row.owner == owner]
        await asyncio.sleep(0)
        return owned

    async def hand_over(self, owner: int, runs: Sequence[str] | None = None) -> int:
        await self._session.enter()
        given_up = [row for row in self._open(runs) if row.owner == owner]
        for row in given_up:
            row.owner, row.wake_at = None, self._database.clock.now()
        await asyncio.sleep(0)
        return len(given_up)

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        await self._session.enter()
        builds = _builds(definitions)
        needed = {(row.new.workflow, row.new.version): None for row in self._open(None)}
        await asyncio.sleep(0)
        return [Definition(workflow, version, "") for workflow, version in sorted(needed.keys() - builds.keys())]

    # -- rules -----------------------------------------------------------------------------------------------

    def _may_claim(self, owner: int) -> bool:
        return self._database.is_living(owner)

    def _is_due(self, row: HeadRow, builds: Builds) -> bool:
        build = builds.get((row.new.workflow, row.new.version))
        if build is None or row.owner is not None or row.wake_at is None or row.status == "quarantined":
            return False
        return row.wake_at <= self._database.clock.now() and not (row.status == "stopped" and row.build == build)

    def _is_orphan(self, row: HeadRow, builds: Builds) -> bool:
        if row.owner is None or row.status == "quarantined" or (row.new.workflow, row.new.version) not in builds:
            return False
        return not self._database.is_living(row.owner)

    def _claim(self, row: HeadRow, owner: int, builds: Builds) -> Head:
        """The claimer's build is the one that may stop the run, so the head names it."""
        row.epoch += 1
        row.owner, row.wake_at = owner, None
        row.status = "running"
        row.build = builds[row.new.workflow, row.new.version]
        row.updated_at = self._database.clock.now()
        return row.head()

    def _open(self, runs: Sequence[str] | None) -> Iterable[HeadRow]:
        table = self._database.open_runs
        if runs is None:
            return table.values()
        return (table[run] for run in dict.fromkeys(runs) if run in table)


def _builds(definitions: Sequence[Definition]) -> Builds:
    return {(definition.workflow, definition.version): definition.build for definition in definitions}


def _by_wake_time(row: HeadRow) -> tuple[int, str]:
    return (row.wake_at or 0, row.id)
