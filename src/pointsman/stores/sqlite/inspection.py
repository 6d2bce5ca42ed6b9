"""The doctor's queries on a SQLite file: see `ports/inspection.py` for what it promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from pointsman.ports.inspection import Cut, Fact, MailCount, Orphan, Stray
from pointsman.stores.queries import load
from pointsman.stores.sqlite import rows, states
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "inspection")
_LOG = load(__package__, "log")


class SqliteInspection:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def facts(self) -> list[Fact]:
        found = await self._session.call(lambda connection: connection.execute("PRAGMA quick_check(10)").fetchall())
        trouble = "; ".join(str(line) for (line,) in found)
        advice = "" if trouble == "ok" else "the file is damaged: restore a copy, and look for the disk's errors"
        return [
            Fact("store", f"{self._database.path} (one process), SQLite {sqlite3.sqlite_version}"),
            Fact("quick_check", trouble, advice),
        ]

    async def mail_counts(self, *, runs: Sequence[str] | None = None, limit: int) -> list[MailCount]:
        return [MailCount(*row) for row in await self._ask("mail_counts", runs=_json(runs), limit=limit)]

    async def orphans(self, *, runs: Sequence[str] | None = None, limit: int) -> list[Orphan]:
        living = _json([row.number for row in self._database.living()])
        return [Orphan(*row) for row in await self._ask("orphans", runs=_json(runs), living=living, limit=limit)]

    async def strays(self, *, limit: int) -> list[Stray]:
        return [Stray(*row) for row in await self._ask("strays", limit=limit)]

    async def moved_away(self, run: str) -> int:
        row = await self._session.call(lambda connection: connection.execute(_SQL["moved_away"], (run,)).fetchone())
        return int(row[0])

    async def cut(self, cut: Cut) -> bool:
        now, plain_bytes_max = self._database.clock.now(), self._database.settings.plain_json_bytes_max
        return await self._session.call(lambda connection: _cut(connection, cut, now, plain_bytes_max))

    async def recount_mail(self, run: str, epoch: int) -> bool:
        wanted = {"run": run, "epoch": epoch, "now": self._database.clock.now()}
        count = await self._session.call(lambda connection: connection.execute(_SQL["recount_mail"], wanted).rowcount)
        return count == 1

    async def _ask(self, query: str, **values: Any) -> list[rows.Row]:
        return await self._session.call(lambda connection: connection.execute(_SQL[query], values).fetchall())


def _cut(connection: Connection, cut: Cut, now: int, plain_bytes_max: int) -> bool:
    seen = {"run": cut.run, "epoch": cut.epoch, "sequence": cut.sequence, "kept": cut.kept, "folded": cut.folded}
    row = connection.execute(_SQL["cut_head"], {**seen, "now": now}).fetchone()
    if row is None:
        return False
    number, epoch = row
    where = {"number": number, "kept": cut.kept}
    connection.execute(_SQL["keep_cut"], {**where, "run": cut.run, "reason": cut.reason, "now": now})
    connection.execute(_SQL["cut_events"], where)
    connection.execute(_SQL["cut_reservations"], where)
    states.write(connection, cut.run, cut.state, now)
    event = cut.repaired
    codec, body, packed = rows.stored(event, plain_bytes_max)
    connection.execute(
        _LOG["insert_event"],
        (number, cut.kept + 1, event.at, epoch, event.version, event.checksum, codec, event.type, body, packed, b""),
    )
    return True


def _json(items: Sequence[object] | None) -> str | None:
    return None if items is None else msgspec.json.encode(items).decode()
