"""Ownership in the memory store: see `ports/ownership.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Definition, Victim
from pointsman.stores.inprocess.membership import IncarnationRow
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
        orphans = [row for row in self._open(None) if self._is_orphan(row, builds) and not self._is_suspect(row)]
        taken = orphans[: max(limit, 0)] if self._may_claim(owner) else []
        blamed = [row for row in taken if not self._culprits(row.owner)]
        for row in blamed:
            row.takeovers += 1
        claimed = [self._claim(row, owner, builds) for row in taken]
        await asyncio.sleep(0)
        return claimed, len(orphans) - len(claimed)

    async def claim_suspects(
        self, owner: int, definitions: Sequence[Definition], *, together: Sequence[int]
    ) -> list[Head]:
        await self._session.enter()
        builds = _builds(definitions)
        suspects = [row for row in self._open(None) if self._is_orphan(row, builds) and self._is_suspect(row)]
        tried = self._tried_next(suspects, together) if self._may_claim(owner) else []
        if tried:
            self._database.incarnations[owner].trial = frozenset(row.id for row in tried)
        for row in tried:
            row.takeovers += 1
        claimed = [self._claim(row, owner, builds) for row in tried]
        await asyncio.sleep(0)
        return claimed

    async def end_trial(self, owner: int) -> None:
        await self._session.enter()
        if self._database.is_living(owner):
            self._database.incarnations[owner].trial = frozenset()
        await asyncio.sleep(0)

    async def died_on_trial(self, run: str) -> list[Victim]:
        await self._session.enter()
        victims = [Victim(row.number, row.name) for row in self._tried(run)]
        await asyncio.sleep(0)
        return victims

    async def release(self, run: str) -> bool:
        await self._session.enter()
        row = self._database.open_runs.get(run)
        is_released = row is not None and row.status == "quarantined"
        if row is not None and is_released:
            row.status, row.owner, row.takeovers, row.wake_at = "running", None, 0, self._database.clock.now()
            for victim in self._tried(run):
                victim.trial -= {run}
        await asyncio.sleep(0)
        return is_released

    async def owned(self, owner: int) -> Mapping[str, int]:
        await self._session.enter()
        owned = {row.id: row.epoch for row in self._open(None) if row.owner == owner}
        await asyncio.sleep(0)
        return owned

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        await self._session.enter()
        given_up = [row for row in self._open([*runs]) if row.owner == owner and row.epoch == runs[row.id]]
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

    def _culprits(self, owner: int | None) -> frozenset[str]:
        """The runs that this incarnation, which has ended, had on trial, but for those that got on. Judged before the
        first of its runs is claimed: afterwards their heads tell of others."""
        incarnation = self._database.incarnations.get(owner or 0)
        if incarnation is None:
            return frozenset()
        if not incarnation.is_judged:
            tried = self._open([*incarnation.trial])
            incarnation.trial = frozenset(row.id for row in tried if row.owner == owner and self._is_guilty(row))
            incarnation.is_judged = True
        return incarnation.trial

    def _is_guilty(self, row: HeadRow) -> bool:
        return row.takeovers > 0

    def _is_suspect(self, row: HeadRow) -> bool:
        return row.takeovers > 0 and row.id in (self._culprits(row.owner) or {row.id})

    def _tried_next(self, suspects: Sequence[HeadRow], together: Sequence[int]) -> list[HeadRow]:
        fewest = min((row.takeovers for row in suspects), default=1)
        alike = sorted((row for row in suspects if row.takeovers == fewest), key=lambda row: row.id)
        return alike[: together[min(fewest, len(together)) - 1]]

    def _tried(self, run: str) -> list[IncarnationRow]:
        """The dead that had it on trial."""
        return [row for row in self._database.incarnations.values() if row.ended and run in row.trial]

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
