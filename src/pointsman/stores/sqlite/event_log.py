"""The event log on SQLite: see `ports/event_log.py` for what it promises. A batch is one operation, run by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import DuplicateMail, InvalidCursor, RunEnded, UnknownRun
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
from pointsman.stores import cursors
from pointsman.stores.checks import check_batch, check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite import rows, states
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.mailbox import accept
from pointsman.stores.sqlite.session import Session

MOVED = AppendResult(Outcome.MOVED)
Position = tuple[int, int, int, int, str]
"""A run's number, epoch, sequence, mail and status."""

_SQL = load(__package__, "log")


class SqliteEventLog:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.database.clock
        self._plain_bytes_max = session.database.settings.plain_json_bytes_max

    async def append(self, batch: Sequence[Append], *, lane: int = 0) -> list[AppendResult]:
        """See `ports/event_log.py`. All lanes share one group, because there is only one writer.

        Raises:
            ValueError: a run is in the batch twice, or has a letter from another run of the batch.
            InvalidValue: a text or a number that no database can hold; nothing of the batch was appended.
        """
        del lane
        check_batch(batch)
        return await self._session.call(lambda connection: self._settle_all(connection, batch))

    async def resolve(self, append: Append) -> Resolution:
        row = await self._session.call(
            lambda connection: connection.execute(_SQL["nonce_at"], (append.run, append.expected + 1)).fetchone()
        )
        if row is None:
            return Resolution.ABSENT
        return Resolution.OURS if row[0] == append.nonce else Resolution.OTHERS

    async def read(
        self, run: str, *, after: int = 0, limit: int = 1000, bytes_max: int | None = None
    ) -> list[Recorded]:
        return (await self.read_many({run: after}, limit=limit, bytes_max=bytes_max))[run]

    async def read_many(
        self, after: Mapping[str, int], *, limit: int, bytes_max: int | None = None
    ) -> dict[str, list[Recorded]]:
        found = await self._session.call(lambda connection: _read(connection, after, limit, bytes_max))
        return {run: [rows.recorded(row) for row in of_run] for run, of_run in found.items()}

    async def heads(self, runs: Sequence[str]) -> dict[str, Head]:
        wanted = msgspec.json.encode(list(runs)).decode()
        found = await self._session.call(lambda connection: connection.execute(_SQL["heads"], (wanted,)).fetchall())
        return {row[0]: rows.head(row) for row in found}

    async def list_runs(
        self, where: RunFilter, *, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Head], str | None]:
        check_text(*where.status, where.workflow or "", where.tenant or "")
        limit = max(limit, 1)
        wanted = {
            "status": msgspec.json.encode(where.status).decode() if where.status else None,
            "workflow": where.workflow,
            "tenant": where.tenant,
            "attributes": values.encode(dict(where.attributes)).decode() if where.attributes else None,
            "before": cursors.BIGINT_MAX if cursor is None else cursors.decode(cursor, tuple[int])[0],
            "limit": limit + 1,
        }
        found = await self._session.call(lambda connection: connection.execute(_SQL["list_runs"], wanted).fetchall())
        heads = [rows.head(row) for row in found[:limit]]
        return heads, cursors.encode(found[limit - 1][-1]) if len(found) > limit else None

    async def feed(self, *, cursor: str | None = None, limit: int = 1000) -> tuple[list[FeedEvent], str]:
        """The cursor is the position of the last event read."""
        after = 0 if cursor is None else cursors.decode(cursor, tuple[int])[0]
        found, last = await self._session.call(lambda connection: _feed(connection, after, limit))
        if after > last:
            raise InvalidCursor("this is not a cursor that the feed gave")
        events = [FeedEvent(row[0], rows.recorded(row[2:])) for row in found]
        return events, cursors.encode(found[-1][1] if found else after)

    # -- settling a batch, on the connection's thread ----------------------------------------------------------------

    def _settle_all(self, connection: Connection, batch: Sequence[Append]) -> list[AppendResult]:
        by_run = {item.run: item for item in batch}
        settled: dict[str, AppendResult] = {}

        def settle(item: Append) -> None:
            settled[item.run] = AppendResult(Outcome.MISSING)
            parent = item.create.parent if item.create is not None else None
            if parent in by_run and parent not in settled:
                settle(by_run[parent])
            settled[item.run] = self._settle(connection, item, settled)

        for item in batch:
            if item.run not in settled:
                settle(item)
        return [settled[item.run] for item in batch]

    def _settle(self, connection: Connection, item: Append, settled: dict[str, AppendResult]) -> AppendResult:
        place: Position | None = connection.execute(_SQL["position"], (item.run,)).fetchone()
        mail = place[3] if place is not None else 0
        new = item.create
        refusal = _refuse_move(place, item) if new is None else _refuse_creation(place, new, settled)
        if refusal is not None:
            return AppendResult(refusal, mail)
        now = self._clock.now()
        number = place[0] if place is not None else _create(connection, item, now)
        self._move(connection, number, item, now)
        _deliver(connection, item, now)
        _write_rows(connection, number, item)
        if item.state is not None:
            states.write(connection, item.run, item.state, now)
        return AppendResult(Outcome.MOVED, mail) if mail else MOVED

    def _move(self, connection: Connection, number: int, item: Append, now: int) -> None:
        ended_at = now if item.status in ENDED_STATUSES else None
        sequence = item.expected + len(item.events)
        epoch = item.epoch + item.redrives
        wanted = {
            "number": number, "sequence": sequence, "status": item.status, "owner": item.owner, "wake_at": item.wake_at,
            "folded": item.folded, "now": now, "ended_at": ended_at, "epoch": epoch, "base": item.base,
            "generations": item.generations, "is_progress": item.is_progress,
        }  # fmt: skip
        connection.execute(_SQL["move"], wanted)
        nonce, events = item.nonce, []
        for place, event in enumerate(item.events, item.expected + 1):
            codec, body, packed = rows.stored(event, self._plain_bytes_max)
            fields = (event.at, epoch, event.version, event.checksum, codec, event.type, body, packed, nonce)
            events.append((number, place, *fields))
            nonce = b""
        connection.executemany(_SQL["insert_event"], events)


def _refuse_move(place: Position | None, item: Append) -> Outcome | None:
    if place is None:
        return Outcome.MISSING
    _, epoch, sequence, mail, status = place
    if epoch != item.epoch:
        return Outcome.FENCED
    may_move = status == "failed" if item.redrives else status not in ENDED_STATUSES
    if sequence != item.expected or not may_move:
        return Outcome.CONFLICT
    if item.closes and mail != item.folded:
        return Outcome.MAIL_ARRIVED
    return None


def _refuse_creation(place: Position | None, new: NewRun, settled: dict[str, AppendResult]) -> Outcome | None:
    if new.parent is not None and (new.parent not in settled or settled[new.parent].outcome is not Outcome.MOVED):
        return Outcome.MISSING
    return Outcome.EXISTS if place is not None else None


def _create(connection: Connection, item: Append, now: int) -> int:
    new = item.create
    assert new is not None
    attributes = values.encode(dict(new.attributes)).decode()
    row = connection.execute(
        _SQL["create"],
        (
            item.run, item.epoch, new.bucket, new.workflow, new.version, new.build, new.digest, new.tenant, attributes,
            new.parent, new.parent_call, now if new.created_at is None else new.created_at, now,
        ),
    ).fetchone()  # fmt: skip
    number: int = row[0]
    return number


def _deliver(connection: Connection, item: Append, now: int) -> None:
    """Deliver the letter of a run that moved. One that can't arrive, or already has, is dropped."""
    letter = item.letter
    if letter is not None:
        try:
            accept(connection, letter.run, letter.key, letter.kind, letter.body, now)
        except (UnknownRun, RunEnded, DuplicateMail):
            return


def _write_rows(connection: Connection, number: int, item: Append) -> None:
    """Write the rows of read models that come with the events."""
    for task in item.tasks:
        closed_at = None if task.status == "open" else task.at
        detail = bytes(task.detail).decode()
        connection.execute(
            _SQL["write_task"],
            {
                "id": task.id, "run": item.run, "call": task.call, "status": task.status, "question": task.question,
                "detail": detail, "opened_at": task.at, "closed_at": closed_at, "assignee": task.assignee,
                "requested": task.requested,
            },
        )  # fmt: skip
    connection.executemany(
        _SQL["write_notice"], [(told.id, told.at, told.at, bytes(told.body).decode()) for told in item.notices]
    )
    connection.executemany(
        _SQL["write_reservation"], [(spent.tranche, number, spent.sequence) for spent in item.reservations]
    )


def _read(
    connection: Connection, after: Mapping[str, int], limit: int, bytes_max: int | None
) -> dict[str, list[rows.Row]]:
    found: dict[str, list[rows.Row]] = {run: [] for run in after}
    left = inf if bytes_max is None else max(bytes_max, 1)
    for run, sequence in after.items():
        cursor = connection.execute(_SQL["read"], (run, max(sequence, 0), max(limit, 0)))
        if bytes_max is None:
            found[run] = cursor.fetchall()
            continue
        for row in cursor:  # each row is read from the file on demand
            found[run].append(row)
            left -= rows.size(row)
            if left <= 0:
                cursor.close()
                return found
    return found


def _feed(connection: Connection, after: int, limit: int) -> tuple[list[rows.Row], int]:
    found = connection.execute(_SQL["feed"], (after, max(limit, 0))).fetchall()
    (last,) = connection.execute(_SQL["last_position"]).fetchone()
    return found, last
