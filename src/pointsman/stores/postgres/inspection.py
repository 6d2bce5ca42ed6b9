"""The doctor's queries on PostgreSQL: see `ports/inspection.py` for what it promises."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from pointsman.ports.inspection import Cut, Fact, MailCount, Orphan, Stray
from pointsman.ports.states import NO_STATE
from pointsman.stores.postgres.connection import Link
from pointsman.stores.postgres.server import Connection
from pointsman.stores.queries import load

TIMEOUT_S = 600.0
"""Some of these queries read whole tables."""
CLOCK_OFFSET_MS_MAX = 1_000
WRITING_MS_MAX = 60_000
CONNECTIONS_SHARE_MAX = 0.8
VERSION_MIN = 140_000

_SQL = load(__package__, "inspection")


class PostgresInspection:
    """
    Args:
        link: a link of its own that plans each statement anew, for the tables as they are.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def close(self) -> None:
        await self._link.close()

    async def facts(self) -> list[Fact]:
        settings = {row["name"]: row["setting"] for row in await self._fetch("settings")}
        sessions = (await self._fetch("sessions"))[0]
        migration = (await self._fetch("migrations"))[0]
        return [
            Fact("schema", f"migration {migration['number']} ({migration['name']})"),
            Fact(
                "server_version",
                settings["server_version"],
                "" if int(settings["server_version_num"]) >= VERSION_MIN else "PostgreSQL 14 is the oldest supported",
            ),
            *(_setting(settings, *rule) for rule in RULES if rule[0] in settings),
            *_of_sessions(sessions, int(settings["max_connections"])),
        ]

    async def mail_counts(self, *, runs: Sequence[str] | None = None, limit: int) -> list[MailCount]:
        return [MailCount(*row) for row in await self._fetch("mail_counts", _list(runs), limit)]

    async def orphans(self, *, runs: Sequence[str] | None = None, limit: int) -> list[Orphan]:
        return [Orphan(*row) for row in await self._fetch("orphans", _list(runs), limit)]

    async def strays(self, *, limit: int) -> list[Stray]:
        return [Stray(*row) for row in await self._fetch("strays", limit)]

    async def moved_away(self, run: str) -> int:
        count: int = (await self._fetch("moved_away", run))[0][0]
        return count

    async def cut(self, cut: Cut) -> bool:
        event, state = cut.repaired, cut.state or NO_STATE
        rows = await self._fetch(
            "cut", cut.run, cut.epoch, cut.sequence, cut.kept, cut.folded, cut.reason, event.at, event.checksum,
            event.version, event.body, event.type, state.version, state.sequence, state.value,
        )  # fmt: skip
        return bool(rows)

    async def recount_mail(self, run: str, epoch: int) -> bool:
        return bool(await self._fetch("recount_mail", run, epoch))

    async def _fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async def ask(connection: Connection) -> list[asyncpg.Record]:
            rows: list[asyncpg.Record] = await connection.fetch(_SQL[query], *values, timeout=None)
            return rows

        return await self._link.call(ask, timeout_s=TIMEOUT_S)


def _list(runs: Sequence[str] | None) -> list[str] | None:
    return None if runs is None else list(runs)


Rule = tuple[str, Callable[[str], bool], str]
RULES: tuple[Rule, ...] = (
    (
        "fsync", lambda value: value == "on",
        "a crash of the machine can lose or damage everything: set fsync = on",
    ),
    (
        "full_page_writes", lambda value: value == "on",
        "a crash of the machine can damage pages beyond repair: set full_page_writes = on, unless the file system "
        "writes them atomically",
    ),
    (
        "synchronous_commit", lambda value: value != "off",
        "what was acknowledged can be lost in a crash: set synchronous_commit = on (or more, with a standby)",
    ),
    (
        "wal_level", lambda value: value != "minimal",
        "no standby and no continuous backup is possible: set wal_level = replica",
    ),
    (
        "data_checksums", lambda value: value == "on",
        "the database does not notice a page that the disk gives back changed; Pointsman notices it in a run's events, "
        "and in nothing else: pg_checksums --enable",
    ),
)  # fmt: skip
"""Settings, the condition that each should meet, and what to do if it does not."""


def _setting(settings: dict[str, str], name: str, is_fine: Callable[[str], bool], advice: str) -> Fact:
    return Fact(name, settings[name], "" if is_fine(settings[name]) else advice)


def _of_sessions(row: asyncpg.Record, connections_max: int) -> list[Fact]:
    offset = round(time.time() * 1000) - row["now_ms"]
    crowded = row["clients"] > CONNECTIONS_SHARE_MAX * connections_max
    return [
        Fact(
            "connections", f"{row['clients']} of {connections_max}",
            "nearly all are taken: raise max_connections, or run fewer coordinators" if crowded else "",
        ),
        Fact(
            "clock_offset_ms", str(offset),
            "this machine's clock is not the database's: run a time service; Pointsman itself goes by the database's"
            if abs(offset) > CLOCK_OFFSET_MS_MAX else "",
        ),
        Fact(
            "idle_in_transaction", str(row["idle"]),
            "that many sessions have held a transaction open for a minute and do nothing: they hold locks and dead "
            "rows; end them, and set idle_in_transaction_session_timeout for whoever they are (Pointsman sets its own)"
            if row["idle"] else "",
        ),
        Fact(
            "oldest_write_ms", str(row["writing_ms"]),
            "a transaction has been writing for long: it holds back the feed and the clearing away of dead rows; end "
            "it (pg_stat_activity shows it)" if row["writing_ms"] > WRITING_MS_MAX else "",
        ),
    ]  # fmt: skip
