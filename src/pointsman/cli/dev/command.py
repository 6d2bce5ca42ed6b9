"""`pointsman dev`: an app at work on this machine while it is being written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pointsman.cli import output, settings
from pointsman.cli.dev.following import Follower
from pointsman.cli.dev.view import View
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.load import AppNotFound, check_app
from pointsman.cli.process import log_to_stderr, serve
from pointsman.cli.router import DEFAULT_PORT
from pointsman.cli.up import new_lines
from pointsman.cluster import FileWatch, ReloadingCoordinator

FOLDER = ".pointsman"
LOOK_EVERY_S = 0.4
DRAIN_S = 1.0
"""What a call under way gets at a reload; then it is made again by the new process, under the same idempotency key."""


@guarded
def dev(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The API's; 0 for any free one.")] = DEFAULT_PORT,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="As of `coordinator`; a SQLite file in --data without."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For the store and the log; .pointsman beside the app without.")
    ] = None,
    watch: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Another file or folder that is part of the program; may be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="As of `coordinator`; may be repeated."),
    ] = None,
) -> None:
    """Run APP while you write it: one coordinator, one SQLite file.

    Its API is on this machine alone. When a Python file beside the app changes, the coordinator is replaced by one with
    the new code, and open runs go on with that; a run that it does not fit stands still and says so. Code that can't be
    loaded replaces nothing. Ctrl-C or SIGTERM ends it; what it holds stays for the next time.
    """
    home = _home(app)
    for path in watch or []:
        if not path.exists():
            raise Usage(f"--watch {path}: there is no such file or folder")
    values = {"drain_s": DRAIN_S, **settings.parse(set_ or [])}
    settings.coordinator_settings("dev", values)
    directory = (data or home / FOLDER).expanduser().absolute()
    view = View()
    reloading = ReloadingCoordinator(
        app, directory=directory, store=store or f"sqlite:///{directory / 'dev.db'}", port=port,
        watch=FileWatch([home], watch or []), check=lambda: _wrong(app), say=view.say, settings=values,
    )  # fmt: skip
    shown = _Shown(reloading, view)
    serve(shown, lambda: None, hurry=reloading.hurry)


def _home(app: str) -> Path:
    """The folder of the program. Raises AppNotFound: there is nothing of that name to wait for."""
    where, colon, attribute = app.rpartition(":")
    if not colon or not where or not attribute:
        raise AppNotFound(f"{app!r}: give it as module:attribute or file.py:attribute")
    if not where.endswith(".py"):
        return Path.cwd()
    if not Path(where).is_file():
        raise AppNotFound(f"{where}: no such file")
    return Path(where).resolve().parent


def _wrong(app: str) -> str:
    try:
        check_app(app)
    except AppNotFound as error:
        return str(error)
    return ""


class _Shown:
    """The coordinator, and what it does, on this terminal."""

    def __init__(self, reloading: ReloadingCoordinator, view: View) -> None:
        self._reloading = reloading
        self._view = view
        self._tasks: list[asyncio.Task[None]] = []
        self._read = 0

    async def start(self) -> None:
        self._view.start()
        log_to_stderr("warning")  # now: what is written to stderr goes above the table
        log = self._reloading.log
        self._read = log.stat().st_size if log.exists() else 0
        await self._reloading.start()
        self._tasks = [
            asyncio.create_task(self._follow(), name="runs"), asyncio.create_task(self._tail(), name="log"),
        ]  # fmt: skip

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reloading.stop()
        self._tell_log()
        self._view.stop()

    async def _follow(self) -> None:
        follower = Follower(self._reloading.url)
        try:
            while True:
                look = await follower.look()
                if look is not None:
                    self._view.show(look)
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await follower.close()

    async def _tail(self) -> None:
        while True:
            self._tell_log()
            await asyncio.sleep(LOOK_EVERY_S)

    def _tell_log(self) -> None:
        lines, self._read = new_lines(self._reloading.log, self._read)
        for line in lines:
            self._view.log(output.clean(line))
