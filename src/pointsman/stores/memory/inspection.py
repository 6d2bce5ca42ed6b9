"""What the doctor asks of a memory store: see `ports/inspection.py` for what it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from pointsman.kernel.events import Recorded
from pointsman.ports.inspection import Cut, Fact, MailCount, Orphan, Stray
from pointsman.stores.memory.database import ERASED, HeadRow
from pointsman.stores.memory.session import Session


class MemoryInspection:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def facts(self) -> list[Fact]:
        await self._session.enter()
        await asyncio.sleep(0)
        return [Fact("store", "memory: nothing survives this process")]

    async def mail_counts(self, *, runs: Sequence[str] | None = None, limit: int) -> list[MailCount]:
        await self._session.enter()
        counts = [
            MailCount(row.id, row.mail, row.folded, found, last)
            for row in self._rows(runs)
            for found, last in [_unread(row)]
            if row.mail - row.folded != found or row.mail != last
        ]
        await asyncio.sleep(0)
        return counts[:limit]

    async def orphans(self, *, runs: Sequence[str] | None = None, limit: int) -> list[Orphan]:
        """When an incarnation ended is not kept here."""
        await self._session.enter()
        known = self._database.incarnations
        orphans = [
            Orphan(row.id, row.owner, 0 if row.owner in known else None)
            for row in self._rows(runs)
            if row.owner is not None and row.ended_at is None and not self._database.is_living(row.owner)
        ]
        await asyncio.sleep(0)
        return orphans[:limit]

    async def strays(self, *, limit: int) -> list[Stray]:
        await self._session.enter()
        runs = self._database.runs
        strays = [
            Stray("reservations", f"tranche {tranche}, run {run}", sum(1 for other, _ in rows if other == run))
            for tranche, rows in self._database.reservations.items()
            for run in sorted({run for run, _ in rows if run not in runs})
        ]
        await asyncio.sleep(0)
        return strays[:limit]

    async def moved_away(self, run: str) -> int:
        await self._session.enter()
        count = sum(1 for moved, _, _ in self._database.quarantined_events if moved == run)
        await asyncio.sleep(0)
        return count

    async def cut(self, cut: Cut) -> bool:
        await self._session.enter()
        row = self._database.runs.get(cut.run)
        is_same = row is not None and row.ended_at is None and row.epoch == cut.epoch
        if row is None or not is_same or len(row.events) != cut.sequence:
            await asyncio.sleep(0)
            return False
        database, event = self._database, cut.repaired
        moved = [old for old in row.events if old.sequence > cut.kept]
        database.quarantined_events += [(row.id, cut.reason, old) for old in moved]
        for place, (run, old) in enumerate(database.feed):
            if run == row.id and old.sequence > cut.kept:
                database.feed[place] = ERASED
        del row.events[len(row.events) - len(moved) :]
        del row.nonces[len(row.events) :]
        for tranche, rows in database.reservations.items():
            database.reservations[tranche] = {(r, n) for r, n in rows if r != row.id or n <= cut.kept}
        database.write_state(row.id, cut.state)
        row.epoch += 1
        recorded = Recorded(
            sequence=cut.kept + 1, at=event.at, type=event.type, version=event.version, body=event.body,
            epoch=row.epoch, checksum=event.checksum,
        )  # fmt: skip
        row.events.append(recorded)
        row.nonces.append(b"")
        database.feed.append((row.id, recorded))
        row.folded, row.takeovers, row.status = cut.folded, 0, "running"
        begins = [old.sequence for old in row.events if old.type == "RunRestarted"]
        row.base, row.generation = begins[-1] if begins else 1, 1 + len(begins)
        self._release(row)
        await asyncio.sleep(0)
        return True

    async def recount_mail(self, run: str, epoch: int) -> bool:
        await self._session.enter()
        row = self._database.runs.get(run)
        is_same = row is not None and row.ended_at is None and row.epoch == epoch
        if row is not None and is_same:
            row.epoch += 1
            _, row.mail = _unread(row)
            self._release(row)
        await asyncio.sleep(0)
        return is_same

    def _release(self, row: HeadRow) -> None:
        row.owner, row.wake_at = None, self._database.clock.now()
        row.updated_at = row.wake_at

    def _rows(self, runs: Sequence[str] | None) -> Iterable[HeadRow]:
        table = self._database.runs
        names = sorted(table) if runs is None else [run for run in runs if run in table]
        return (table[name] for name in names)


def _unread(row: HeadRow) -> tuple[int, int]:
    """How many there are behind what was folded, and the highest number."""
    numbers = [mail.number for mail in row.letters.values() if mail.number > row.folded]
    return len(numbers), max(numbers, default=row.folded)
