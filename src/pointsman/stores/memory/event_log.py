"""The event log of the memory store: see `ports/event_log.py` for what it promises.

A batch is settled in one atomic step, run by run: refused, or moved with its events and its letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf

from pointsman.kernel.errors import DuplicateMail, InvalidCursor, RunEnded, UnknownRun
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import (
    ENDED_STATUSES,
    Append,
    AppendResult,
    FeedEvent,
    Head,
    Outcome,
    Resolution,
    RunFilter,
)
from pointsman.ports.notices import Notice
from pointsman.stores.checks import check_batch
from pointsman.stores.memory.database import ERASED, HeadRow, NoticeEntry
from pointsman.stores.memory.human_tasks import write_task
from pointsman.stores.memory.listing import list_heads
from pointsman.stores.memory.session import Session


class MemoryEventLog:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        """One atomic step; nothing here waits, so a lane has nothing to keep apart.

        Raises:
            ValueError: a run is twice in the batch, or has a letter from a neighbour of its batch.
            InvalidValue: a task or a reservation that no database could hold; then nothing of the batch was appended.
        """
        del lane
        check_batch(batch)
        await self._session.enter()
        results = self._commit(batch)
        await asyncio.sleep(0)
        return results

    async def resolve(self, append: Append) -> Resolution:
        await self._session.enter()
        row = self._database.runs.get(append.run)
        resolution = Resolution.ABSENT
        if row is not None and len(row.nonces) > append.expected:
            ours = row.nonces[append.expected] == append.nonce
            resolution = Resolution.OURS if ours else Resolution.OTHERS
        await asyncio.sleep(0)
        return resolution

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        await self._session.enter()
        page, _ = self._page(run, after, limit, inf if bytes_max is None else max(bytes_max, 1))
        await asyncio.sleep(0)
        return page

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        await self._session.enter()
        events: dict[str, list[Recorded]] = {}
        left = inf if bytes_max is None else max(bytes_max, 1)
        for run, sequence in after.items():
            events[run], left = self._page(run, sequence, limit, left)
        await asyncio.sleep(0)
        return events

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        await self._session.enter()
        table = self._database.runs
        heads = {run: table[run].head() for run in runs if run in table}
        await asyncio.sleep(0)
        return heads

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        await self._session.enter()
        page = list_heads(self._database.runs.values(), where, limit, cursor)
        await asyncio.sleep(0)
        return page

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        """The cursor is the position behind the last event read, in the order of commits."""
        await self._session.enter()
        feed = self._database.feed
        first = _position(cursor, len(feed))
        page = feed[first : first + max(limit, 0)]
        events = [FeedEvent(*entry) for entry in page if entry is not ERASED]
        await asyncio.sleep(0)
        return events, str(first + len(page))

    def _page(self, run: str, after: int, limit: int, left: float) -> tuple[list[Recorded], float]:
        """Events up to the one that takes the last of `left` bytes, and how many are left then."""
        row, first = self._database.runs.get(run), max(after, 0)
        page = row.events[first : first + max(limit, 0)] if row else []
        if left < inf:
            for n, event in enumerate(page):
                if left <= 0:
                    return page[:n], left
                left -= len(event.body)
        return page, left

    # -- settling a batch ------------------------------------------------------------------------------------

    def _commit(self, batch: Sequence[Append]) -> list[AppendResult]:
        by_run = {item.run: item for item in batch}
        settled: dict[str, AppendResult] = {}
        for item in batch:
            self._settle_after_parents(item, by_run, settled)
        return [settled[item.run] for item in batch]

    def _settle_after_parents(self, item: Append, by_run: dict[str, Append], settled: dict[str, AppendResult]) -> None:
        if item.run in settled:
            return
        settled[item.run] = AppendResult(Outcome.MISSING)
        parent = item.create.parent if item.create is not None else None
        if parent in by_run:
            self._settle_after_parents(by_run[parent], by_run, settled)
        settled[item.run] = self._settle(item, settled)

    def _settle(self, item: Append, settled: dict[str, AppendResult]) -> AppendResult:
        row = self._database.runs.get(item.run)
        if item.create is None:
            refusal = self._refuse_move(row, item)
        else:
            refusal = self._refuse_creation(row, item, settled)
            if refusal is None:
                row = self._database.insert(item.run, item.create, item.epoch)
        if refusal is None and row is not None:
            self._move(row, item)
            self._deliver(item)
            self._write_rows(row, item)
        return AppendResult(refusal or Outcome.MOVED, row.mail if row is not None else 0)

    def _refuse_move(self, row: HeadRow | None, item: Append) -> Outcome | None:
        if row is None:
            return Outcome.MISSING
        if row.epoch != item.epoch:
            return Outcome.FENCED
        may_move = row.status == "failed" if item.redrives else row.ended_at is None
        if len(row.events) != item.expected or not may_move:
            return Outcome.CONFLICT
        if item.closes and row.mail != item.folded:
            return Outcome.MAIL_ARRIVED
        return None

    def _refuse_creation(self, row: HeadRow | None, item: Append, settled: dict[str, AppendResult]) -> Outcome | None:
        parent = item.create.parent if item.create is not None else None
        if parent is not None and (parent not in settled or settled[parent].outcome is not Outcome.MOVED):
            return Outcome.MISSING
        return Outcome.EXISTS if row is not None else None

    def _move(self, row: HeadRow, item: Append) -> None:
        database = self._database
        row.epoch += item.redrives
        for event in item.events:
            recorded = Recorded(
                sequence=len(row.events) + 1, at=event.at, type=event.type, version=event.version,
                body=bytes(event.body), epoch=item.epoch + item.redrives, checksum=event.checksum,
            )  # fmt: skip
            row.events.append(recorded)
            row.nonces.append(item.nonce)
            database.feed.append((row.id, recorded))
        row.status, row.owner, row.wake_at = item.status, item.owner, item.wake_at
        row.folded, row.takeovers = item.folded, 0 if item.is_progress else row.takeovers
        row.updated_at = database.clock.now()
        row.base, row.generation = item.base or row.base, row.generation + item.generations
        if item.status in ENDED_STATUSES:
            row.ended_at = row.updated_at
            database.open_runs.pop(row.id, None)
        elif item.redrives:
            row.ended_at = None
            database.open_runs[row.id] = row

    def _deliver(self, item: Append) -> None:
        """Leave the letter of a run that moved. One that can't arrive, or has before, is dropped."""
        letter = item.letter
        if letter is not None:
            try:
                self._database.accept_mail(letter.run, letter.key, letter.kind, letter.body)
            except (UnknownRun, RunEnded, DuplicateMail):
                return

    def _write_rows(self, row: HeadRow, item: Append) -> None:
        """The rows of read models that come with the events."""
        for task in item.tasks:
            write_task(self._database.tasks, row, task)
        for spent in item.reservations:
            self._database.reservations.setdefault(spent.tranche, set()).add((row.id, spent.sequence))
        if item.state is not None:
            self._database.write_state(row.id, item.state)
        for told in item.notices:
            notice = Notice(told.id, told.at, bytes(told.body), 0)
            self._database.notices.setdefault(told.id, NoticeEntry(notice, told.at))


def _position(cursor: str | None, end: int) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 20 and int(cursor) <= end):
        raise InvalidCursor("this is not a cursor that the feed gave")
    return int(cursor)
