"""`pointsman up`: a whole cluster on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from pointsman.agents.addresses import AgentAddresses
from pointsman.cli import output, settings
from pointsman.cli.coordinator import limits_of, webhook_of
from pointsman.cli.exits import guarded
from pointsman.cli.load import check_app
from pointsman.cli.options import AsJson, MaxAge, MaxRss, Store
from pointsman.cli.process import log_to_stderr, serve
from pointsman.cli.router import DEFAULT_PORT
from pointsman.cluster import LocalCluster
from pointsman.stores.urls import is_redis

WATCH_EVERY_S = 0.3
LOUD = re.compile(r" (?:WARNING|ERROR|CRITICAL) ")


@guarded
def up(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    coordinators: Annotated[int, typer.Option(min=1, max=64, help="How many coordinator processes.")] = 3,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The router's; 0 for any free one.")] = DEFAULT_PORT,
    store: Store = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For logs and the embedded PostgreSQL; one per app, without."),
    ] = None,
    max_age: MaxAge = None,
    max_rss: MaxRss = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="As of `coordinator`: who is told of human tasks.")
    ] = None,
    no_restart: Annotated[bool, typer.Option("--no-restart", help="Leave the dead dead.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As of `coordinator`; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run APP on this machine, with all that it needs.

    PostgreSQL (unless --store), a router and coordinators, each a process.

    A dead coordinator is started again under its name; its runs have gone on elsewhere by then. The embedded
    PostgreSQL is started again too; runs wait for it. Ctrl-C or SIGTERM stops all of it in order. Only this machine
    can reach it: to be reached by others, run `pointsman coordinator` and `pointsman router` with a token.
    """
    values = settings.parse(set_ or [])
    settings.coordinator_settings("coordinator-1", values)
    settings.api_settings("127.0.0.1", 0, None, values)
    limits_of(max_age, max_rss)
    webhook_of(webhook, AgentAddresses(allow_private=True))
    check_app(app)
    log_to_stderr("warning")
    directory = data if data is not None else default_directory(app)
    cluster = LocalCluster(
        app,
        coordinators,
        directory=directory,
        store=store,
        port=port,
        restart=not no_restart,
        settings=values,
        options=[
            word
            for option, limit in (("--max-age", max_age), ("--max-rss", max_rss), ("--webhook", webhook))
            if limit is not None
            for word in (option, str(limit))
        ],
    )
    serve(_Watched(cluster), lambda: introduce(cluster, as_json), hurry=cluster.hurry)


def default_directory(app: str, environment: Mapping[str, str] | None = None, *, is_root: bool | None = None) -> Path:
    """A directory of its own for each app. Not in root's home: it is closed to the user that the embedded
    server then runs as."""
    environment = os.environ if environment is None else environment
    is_root = os.geteuid() == 0 if is_root is None else is_root
    where, _, attribute = app.rpartition(":")
    at = hashlib.sha256(f"{Path.cwd()}\0{app}".encode()).hexdigest()[:8]
    stem = Path(where).stem if where.endswith(".py") else where
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{stem}-{attribute}").strip("-.") or "app"
    state = environment.get("XDG_STATE_HOME")
    if state:
        return Path(state) / "pointsman" / f"{slug}-{at}"
    if is_root:
        return Path("/var/lib/pointsman") / f"{slug}-{at}"
    return Path.home() / ".local/state/pointsman" / f"{slug}-{at}"


def about(cluster: LocalCluster) -> dict[str, Any]:
    """What runs where."""
    return {
        "url": cluster.url,
        "pid": os.getpid(),
        "directory": str(cluster.directory),
        "logs": str(cluster.logs),
        "dsn": cluster.dsn if cluster.postgres is not None else without_password(cluster.dsn or ""),
        "postgres": _postgres(cluster),
        "processes": [
            {
                "name": child.name,
                "kind": child.kind,
                "pid": child.pid,
                "address": child.address,
                "log": str(child.log),
            }
            for child in cluster.children.values()
        ],
    }


def without_password(dsn: str) -> str:
    """A DSN that somebody gave, fit to be shown: the embedded server's password is ours to show, theirs is not."""
    password = urlsplit(dsn).password
    return dsn.replace(f":{password}@", ":***@") if password else dsn


def _postgres(cluster: LocalCluster) -> str:
    if cluster.postgres is not None:
        return "embedded"
    return "none" if is_redis(cluster.dsn or "") else "given"


def introduce(cluster: LocalCluster, as_json: bool) -> None:
    said = about(cluster)
    if as_json:
        output.print_json(said)
        return
    out = output.table(["name", "pid", "address", "log"], right=("pid",))
    for process in said["processes"]:
        out.add_row(
            process["name"], str(process["pid"]), f"http://{process['address']}", output.text(process["log"])
        )  # fmt: skip
    if cluster.postgres is not None:
        out.add_row("postgresql", "", "embedded", output.text(cluster.postgres.log))
    output.print_table(out)
    typer.echo(f"\nready: {cluster.url}   (Ctrl-C stops it; what it holds stays in {cluster.directory})")
    typer.echo(f"store: {output.clean(said['dsn'])}")
    typer.echo(f"try:   POINTSMAN_URL={cluster.url} pointsman runs ls")
    output.console().file.flush()


class _Watched:
    """The cluster, and its processes' warnings on this terminal."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        logs = LogWatch(self._cluster.logs)
        await self._cluster.start()
        self._watcher = asyncio.create_task(self._watch(logs), name="warnings")

    async def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._cluster.stop()

    async def _watch(self, logs: LogWatch) -> None:
        while True:
            for line in logs.loud_lines():
                typer.echo(output.clean(line), err=True)
            await asyncio.sleep(WATCH_EVERY_S)


class LogWatch:
    """Warnings and errors that are written to the logs of a directory from now on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read = {path: path.stat().st_size for path in directory.glob("*.log")}

    def loud_lines(self) -> list[str]:
        """`name: line`, for whole lines only. A log that can't be read is not worth the cluster."""
        found = []
        for path in sorted(self._directory.glob("*.log")):
            lines, self._read[path] = new_lines(path, self._read.get(path, 0))
            found += [f"{path.stem}: {line}" for line in lines if LOUD.search(line[:80])]
        return found


def new_lines(log: Path, read: int) -> tuple[list[str], int]:
    """Whole lines of a log behind its first `read` bytes, and how many are read then."""
    try:
        with log.open("rb") as file:
            file.seek(read)
            new = file.read()
    except OSError as error:
        logging.getLogger("pointsman.cluster").debug("%s: %s", log, error)
        return [], read
    whole = new[: new.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), read + len(whole)
