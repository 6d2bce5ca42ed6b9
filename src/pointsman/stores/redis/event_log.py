"""The event log on Redis: see `ports/event_log.py` for what it promises. A batch is one step, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import InvalidCursor
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import (
    ENDED_STATUSES,
    Append,
    AppendResult,
    FeedEvent,
    Head,
    NewRun,
    Outcome,
    Resolution,
    RunFilter,
)
from pointsman.ports.human_tasks import TaskRow
from pointsman.stores import cursors
from pointsman.stores.checks import check_batch, check_text, contains
from pointsman.stores.redis import rows
from pointsman.stores.redis.mailbox import packed_mail
from pointsman.stores.redis.session import Blobs, Session

PAGE: Final = 500
"""Heads that a listing reads in one step."""


class RedisEventLog:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        """See `ports/event_log.py`.

        Raises:
            ValueError: a run is in the batch twice, or has a letter from another run of the batch.
            InvalidValue: a text that no database can hold; nothing of the batch was appended.
        """
        check_batch(batch)
        self._session.enter()
        if not batch:
            return []
        blobs = Blobs()
        plain = self._session.settings.plain_bytes_max
        items = [_item(append, blobs, plain) for append in batch]
        answers = await self._session.append(lane, blobs, batch=items)
        return [AppendResult(Outcome(outcome.decode()), int(mail)) for outcome, mail in answers]

    async def resolve(self, append: Append) -> Resolution:
        """See `ports/event_log.py`. Broken connections are killed before the log is read: what was sent on them has
        been executed by then, or never will be.
        """
        await self._session.settle_doubt()
        ((*found,),) = await self._session.call("log.read", runs=[append.run], after=[append.expected], limit=1)
        if not found:
            return Resolution.ABSENT
        return Resolution.OURS if rows.nonce(found[0]) == append.nonce else Resolution.OTHERS

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        return (await self.read_many({run: after}, limit=limit, bytes_max=bytes_max))[run]

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        self._session.enter()
        if limit <= 0 or not after:
            return {run: [] for run in after}
        firsts = {run: max(sequence, 0) for run, sequence in after.items()}
        asked: dict[str, Any] = {"runs": list(firsts), "after": list(firsts.values()), "limit": limit}
        if bytes_max is None:
            found = await self._session.call("log.read", **asked)
        else:
            found = await self._session.call("log.read_within", **asked, bytes_max=max(bytes_max, 1))
        return {
            run: [rows.recorded(raw, first + n) for n, raw in enumerate(events, 1)]
            for (run, first), events in zip(firsts.items(), found, strict=True)
        }

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        found = [rows.head(row) for row in await self._session.call("log.heads", runs=list(runs))]
        return {head.id: head for head in found}

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        """List runs by reading all of them, newest first, until the page is full: Redis has no index of their fields.
        If only open runs are wanted, only those are read.
        """
        check_text(*where.status, where.workflow or "", where.tenant or "")
        wanted = msgspec.json.decode(values.encode(dict(where.attributes)))
        before = cursors.BIGINT_MAX if cursor is None else cursors.decode(cursor, tuple[int])[0]
        limit, out = max(limit, 1), list[tuple[int, Head]]()
        index = "open" if where.status and set(where.status).isdisjoint(ENDED_STATUSES) else "runs"
        while len(out) <= limit:
            page = await self._session.call("log.list", index=index, before=str(before), limit=PAGE)
            for row in page:
                before = int(rows.fields(row[1])["number"])
                head = rows.head(row)
                if _matches(head, where, wanted):
                    out.append((before, head))
            if len(page) < PAGE:
                break
        heads = [head for _, head in out[:limit]]
        return heads, cursors.encode(out[limit - 1][0]) if len(out) > limit else None

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        """The cursor is the position of the last event read; positions are given in the order of commits."""
        after = 0 if cursor is None else cursors.decode(cursor, tuple[int])[0]
        last, found = await self._session.call("log.feed", after=str(after), limit=max(limit, 0))
        if after > int(last):
            raise InvalidCursor("this is not a cursor that the feed gave")
        events = [FeedEvent(run.decode(), rows.recorded(raw, 0)) for run, _, raw in found]
        return events, cursors.encode(int(found[-1][1]) if found else after)


def _item(append: Append, blobs: Blobs, plain_bytes_max: int) -> dict[str, Any]:
    epoch = append.epoch + append.redrives
    check_text(append.run)
    first = len(blobs) + 3
    for sequence, event in enumerate(append.events, append.expected + 1):
        blobs.add(rows.stored(event, sequence, epoch, append.nonce, plain_bytes_max))
    item: dict[str, Any] = {
        "run": append.run, "epoch": append.epoch, "expected": append.expected, "first": first,
        "count": len(append.events), "status": append.status,
        "owner": "" if append.owner is None else str(append.owner),
        "folded": append.folded, "closes": append.closes, "redrives": append.redrives, "base": append.base,
        "generations": append.generations, "wake_at": "" if append.wake_at is None else str(append.wake_at),
        "is_progress": append.is_progress,
        "tasks": [_task(task) for task in append.tasks],
        "notices": [{"id": told.id, "at": told.at, "body": blobs.add(told.body)} for told in append.notices],
        "reservations": [{"tranche": spent.tranche, "sequence": spent.sequence} for spent in append.reservations],
    }  # fmt: skip
    if append.create is not None:
        item["create"] = _create(append.create)
    if append.letter is not None:
        letter = append.letter
        packed = blobs.add(packed_mail(letter.key, letter.kind, letter.body))
        item["letter"] = {"run": letter.run, "key": letter.key, "packed": packed}
    if append.state is not None:
        item["state"] = state_item(append.state.version, append.state.sequence, append.state.value, blobs)
    return item


def state_item(version: int, sequence: int, value: bytes, blobs: Blobs) -> dict[str, int]:
    return {"version": version, "sequence": sequence, "value": blobs.add(value)}


def _task(task: TaskRow) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": task.id, "call": task.call, "status": task.status, "question": task.question,
        "detail": bytes(task.detail).decode(), "at": task.at,
        "requested": task.requested,
    }  # fmt: skip
    return row if task.assignee is None else {**row, "assignee": task.assignee}


def _create(new: NewRun) -> dict[str, Any]:
    check_text(new.workflow, new.build, new.digest, new.tenant, new.parent or "", new.parent_call or "")
    return {
        "workflow": new.workflow, "version": new.version, "build": new.build, "bucket": new.bucket,
        "digest": new.digest, "tenant": new.tenant, "attributes": values.encode(dict(new.attributes)).decode(),
        "parent": new.parent or "", "parent_call": new.parent_call or "",
        "created_at": "" if new.created_at is None else str(new.created_at),
    }  # fmt: skip


def _matches(head: Head, where: RunFilter, wanted: dict[str, Any]) -> bool:
    return (
        (not where.status or head.status in where.status)
        and (where.workflow is None or head.workflow == where.workflow)
        and (where.tenant is None or head.tenant == where.tenant)
        and (not wanted or contains(dict(head.attributes), wanted))
    )
