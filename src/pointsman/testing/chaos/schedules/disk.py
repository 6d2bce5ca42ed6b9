"""PostgreSQL's disk is full: where its tables are, and where its log is."""

from __future__ import annotations

import asyncio
import os
import pwd
from pathlib import Path

from pointsman.stores.postgres.embedded import EmbeddedPostgres
from pointsman.stores.postgres.embedded_binaries import run
from pointsman.testing.chaos.drill import Drill, own
from pointsman.testing.chaos.schedule import schedule
from pointsman.testing.chaos.small_disk import SmallDiskSite

FULL_S = 1.5


@schedule(
    "disk-full",
    fault="no space is left where PostgreSQL keeps its tables",
    sees="requests wait, or get 503 `store_unavailable`; runs stand still. Reading goes on",
    promised="an append is done whole or not at all; as soon as there is space everything goes on by itself",
    not_promised="service until then: watch the disk",
    long=3,
    site=SmallDiskSite,
    needs=["own", "root"],
)
async def disk_full(drill: Drill) -> None:
    site = drill.site
    assert isinstance(site, SmallDiskSite)
    refused = 0
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            site.fill()
            await drill.flow(FULL_S)
            site.free()
        refused += site.refusals()
    await drill.flow()
    drill.facts["statements_refused"] = refused
    drill.require("PostgreSQL said that the disk is full", refused > 0, refused)


@schedule(
    "log-disk-full",
    fault="PostgreSQL can't write its log (WAL): it ends itself, and can't start until it can",
    sees="as for a crash of the database, for as long as it lasts",
    promised="what was acknowledged was on the disk before: nothing is lost",
    not_promised="service until there is space and PostgreSQL is started again",
    long=3,
)
async def log_disk_full(drill: Drill) -> None:
    """By a limit on the size of files that PostgreSQL's processes may write: an ordinary user can't fill a disk."""
    database = own(drill).database
    assert isinstance(database, EmbeddedPostgres)
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            await asyncio.to_thread(_forbid_writing, database)
            await drill.flow(FULL_S)
            drill.require("PostgreSQL ended itself", not processes_of(database), f"{processes_of(database)}")
            await asyncio.to_thread(database.kill)
            await asyncio.to_thread(database.start)
    await drill.flow()


def _forbid_writing(database: EmbeddedPostgres) -> None:
    """To all its processes, and to those that they start: no file may grow beyond one byte, or be written there. By
    the server's own user, because root in a container may not set the limits of others."""
    owner = database.data.stat().st_uid
    account = pwd.getpwuid(owner) if os.geteuid() == 0 else None
    for pid in processes_of(database):
        run(["prlimit", f"--pid={pid}", "--fsize=1:"], Path("/"), account)


def processes_of(database: EmbeddedPostgres) -> list[int]:
    """The living postmaster first, then its children; empty when it has gone."""
    try:
        postmaster = int((database.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, 0)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError, IndexError, ValueError):
        return []
    return [postmaster, *map(int, children)]
