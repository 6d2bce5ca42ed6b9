"""The mailbox on SQLite: see `ports/mailbox.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping

from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.ports.mailbox import Mail
from pointsman.stores.checks import check_text
from pointsman.stores.queries import load
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "mailbox")


class SqliteMailbox:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.database.clock

    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        check_text(run, key, kind)
        return await self._session.call(lambda connection: accept(connection, run, key, kind, body, self._clock.now()))

    async def read(self, run: str, *, after: int) -> list[Mail]:
        found = await self._session.call(lambda connection: connection.execute(_SQL["read"], (run, after)).fetchall())
        return [Mail(*row) for row in found]

    async def find(self, run: str, key: str) -> Mail | None:
        row = await self._session.call(lambda connection: connection.execute(_SQL["find"], (run, key)).fetchone())
        return None if row is None else Mail(*row)

    async def unread(self, owner: int) -> Mapping[str, int]:
        found = await self._session.call(lambda connection: connection.execute(_SQL["unread"], (owner,)).fetchall())
        return dict(found)


def accept(connection: Connection, run: str, key: str, kind: str, body: bytes, now: int) -> int:
    """Add mail to the run's mailbox, and make the run due at once if nobody owns it. Returns the number of the mail.

    Raises:
        UnknownRun, DuplicateMail, RunEnded.
    """
    row = connection.execute(_SQL["addressee"], {"run": run, "key": key}).fetchone()
    if row is None:
        raise UnknownRun(f"no run has the id {run!r}")
    mail, ended_at, has_key = row
    if has_key:
        raise DuplicateMail
    if ended_at is not None:
        raise RunEnded
    number: int = mail + 1
    connection.execute(_SQL["count"], {"run": run, "now": now})
    connection.execute(_SQL["insert"], (run, key, number, kind, bytes(body), now))
    return number
