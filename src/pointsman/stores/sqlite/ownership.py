"""Ownership on SQLite: see `ports/ownership.py` for what it promises. The living are known in memory (one process)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Definition, Victim
from pointsman.stores.queries import load
from pointsman.stores.sqlite import rows
from pointsman.stores.sqlite.connection import Connection
from pointsman.stores.sqlite.session import Session

_SQL = load(__package__, "ownership")


class SqliteOwnership:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._database = session.database

    async def claim_due(
        self, owner: int, definitions: Sequence[Definition], *, limit: int, runs: Sequence[str] | None = None
    ) -> list[Head]:
        wanted = {"definitions": _known(definitions), "runs": _json(runs), "limit": max(limit, 0)}

        def claim(connection: Connection) -> list[rows.Row]:
            if not self._database.is_living(owner):
                return []
            due = connection.execute(_SQL["due"], {**wanted, "now": self._database.clock.now()}).fetchall()
            return self._claim(connection, owner, due)

        return [rows.head(row) for row in await self._session.call(claim)]

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        known = _known(definitions)

        def claim(connection: Connection) -> tuple[list[rows.Row], int]:
            wanted = {"definitions": known, "living": self._living()}
            self._judge(connection)
            orphans = connection.execute(_SQL["orphans"], wanted).fetchall()
            taken = orphans[: max(limit, 0)] if self._database.is_living(owner) else []
            return self._claim(connection, owner, taken), len(orphans) - len(taken)

        claimed, left = await self._session.call(claim)
        return [rows.head(row) for row in claimed], left

    async def claim_suspects(
        self, owner: int, definitions: Sequence[Definition], *, together: Sequence[int]
    ) -> list[Head]:
        known, limits = _known(definitions), _json(together)

        def claim(connection: Connection) -> list[rows.Row]:
            wanted = {"definitions": known, "living": self._living(), "together": limits}
            self._judge(connection)
            suspects = connection.execute(_SQL["suspects"], wanted).fetchall()
            if not suspects or not self._database.is_living(owner):
                return []
            connection.execute(_SQL["end_trial"], (owner,))
            connection.executemany(_SQL["put_on_trial"], [(owner, run) for *_, run in suspects])
            return self._claim(connection, owner, [tuple(picked) for *picked, _ in suspects])

        return [rows.head(row) for row in await self._session.call(claim)]

    async def end_trial(self, owner: int) -> None:
        def end(connection: Connection) -> None:
            if self._database.is_living(owner):
                connection.execute(_SQL["end_trial"], (owner,))

        await self._session.call(end)

    async def died_on_trial(self, run: str) -> list[Victim]:
        wanted = {"run": run, "living": self._living()}
        found = await self._session.call(
            lambda connection: connection.execute(_SQL["died_on_trial"], wanted).fetchall()
        )
        return [Victim(*row) for row in found]

    async def release(self, run: str) -> bool:
        def let_go(connection: Connection) -> bool:
            released = connection.execute(_SQL["release"], (self._database.clock.now(), run)).rowcount == 1
            if released:
                connection.execute(_SQL["forget_trials"], {"run": run, "living": self._living()})
            return released

        return await self._session.call(let_go)

    async def owned(self, owner: int) -> Mapping[str, int]:
        found = await self._session.call(lambda connection: connection.execute(_SQL["owned"], (owner,)).fetchall())
        return dict(found)

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        wanted = {"owner": owner, "runs": _json(list(runs.items())), "now": self._database.clock.now()}
        return await self._session.call(lambda connection: connection.execute(_SQL["hand_over"], wanted).rowcount)

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        known = {(definition.workflow, definition.version) for definition in definitions}
        needed = await self._session.call(lambda connection: connection.execute(_SQL["open_versions"]).fetchall())
        return [Definition(workflow, version, "") for workflow, version in needed if (workflow, version) not in known]

    def _judge(self, connection: Connection) -> None:
        """What the dead died of."""
        dead = {"living": self._living()}
        connection.execute(_SQL["acquit"], dead)
        connection.execute(_SQL["condemn"], dead)

    def _claim(self, connection: Connection, owner: int, picked: Sequence[tuple[int, str, int]]) -> list[rows.Row]:
        """Claim runs, with the build of their claimer, which alone may stop them, and with what to add to takeovers."""
        now = self._database.clock.now()
        return [
            connection.execute(_SQL["claim"], (owner, build, takeover, now, number)).fetchone()
            for number, build, takeover in picked
        ]

    def _living(self) -> str | None:
        return _json([row.number for row in self._database.living()])


def _known(definitions: Sequence[Definition]) -> str | None:
    """The definitions. The newest of two builds of one version wins: a run must not be picked twice."""
    by_version = {(definition.workflow, definition.version): definition.build for definition in definitions}
    return _json([[workflow, version, build] for (workflow, version), build in by_version.items()])


def _json(items: Sequence[object] | None) -> str | None:
    return None if items is None else msgspec.json.encode(items).decode()
