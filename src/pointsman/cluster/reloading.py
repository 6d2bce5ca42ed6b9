"""One coordinator process that is replaced whenever the program's files change: what `pointsman dev` stands on.

A new process takes the old one's place only when the program can be loaded: what can't be is said, and the old one goes
on, or, where there is none, the next change is waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import httpx

from pointsman.cluster.child import COMMAND, HOST, POLL_S, READY_TIMEOUT_S, Child
from pointsman.cluster.locking import take_directory
from pointsman.cluster.watching import FileWatch
from pointsman.node import free_port, hash_seed

LOOK_EVERY_S: Final = 0.25
SETTLE_S: Final = 0.1
"""An editor writes a file in several steps, and a branch is many files: what changes goes on until it is still."""
MISFITS_OF: Final = 200
"""The newest open runs are replayed after a reload, to say which of them the new code does not fit."""

Say = Callable[[str, str], None]
"""`info` or `error`, and the sentence."""


class ReloadingCoordinator:
    """A coordinator process that is replaced whenever the program's files change. Call `start` once; `stop` is
    idempotent.

    Args:
        app: as `pointsman coordinator` takes it.
        directory: for its log and, by default, its store; made if it is not there.
        store: URL.
        port: of its API; 0 for any free one.
        watch: which files are the program.
        check: what is wrong with the program, in one sentence; "" where it can be loaded. Called in a thread.
        settings: of the coordinator, by the names of `--set`.
    """

    def __init__(
        self, app: str, *, directory: Path, store: str, port: int, watch: FileWatch, check: Callable[[], str], say: Say,
        settings: Mapping[str, object],
    ) -> None:  # fmt: skip
        self.directory = directory
        self.log = directory / "dev.log"
        self.url = ""
        self.child: Child
        self._app = app
        self._store = store
        self._port = port
        self._watch = watch
        self._check = check
        self._say = say
        self._settings = settings
        self._lock: IO[str] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._fitting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises: ClusterFailed, DirectoryInUse, AddressInUse, StoreUnavailable, InvalidStoreUrl."""
        self._lock = take_directory(self.directory, "dev.lock")
        (self.directory / ".gitignore").write_text("*\n")
        address = f"{HOST}:{free_port(HOST, self._port)}"
        self.url = f"http://{address}"
        seed = str(await hash_seed(self._store))
        arguments = ["coordinator", self._app, "--name", "dev", "--host", HOST, "--port", address.rpartition(":")[2]]
        arguments += ["--agents-private", "--json", "--with-parent", str(os.getpid())]
        for name, value in self._settings.items():
            arguments += ["--set", f"{name}={value}"]
        environment = {"POINTSMAN_STORE": self._store, "PYTHONHASHSEED": seed}
        self.child = Child("coordinator", "coordinator", address, self.log, arguments, environment)
        await self._replace("")
        self._watcher = asyncio.create_task(self._reload_for_ever(), name="reload")

    async def stop(self) -> None:
        """The process leaves in order: its runs are in the store."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
            self._watcher = None
        await self._end()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def hurry(self) -> None:
        self.child.hurry()

    async def _reload_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                found = await self._found()
                if found:
                    await self._replace(_named(sorted(found)))
            except Exception as error:  # noqa: BLE001  else no change would be seen any more, without a word
                self._say("error", f"not reloaded: {type(error).__name__}: {error} (waiting for the next change)")

    async def _found(self) -> set[Path]:
        """What has changed, once it is still."""
        found = set(self._watch.changed())
        while found:
            await asyncio.sleep(SETTLE_S)
            more = self._watch.changed()
            if not more:
                break
            found.update(more)
        return found

    async def _replace(self, why: str) -> None:
        """A new process, if the program can be loaded."""
        if why:
            self._say("info", f"changed: {why}")
        wrong = await asyncio.to_thread(self._check)
        if wrong:
            is_there = self.child.process is not None and self.child.pid is not None
            then = "the code before it goes on" if is_there else "nothing runs"
            self._say("error", f"{wrong} ({then}; waiting for the next change)")
            return
        began = time.monotonic()
        await self._end()
        self.child.is_leaving = False
        await self.child.spawn()
        if not await self._is_ready():
            self._say("error", f"{self.child.last_words()} (all of it: {self.log}; waiting for the next change)")
            await self._end()
            return
        self.child.keep(restart=True)
        self._say("info", f"{'reloaded' if why else 'ready'} in {time.monotonic() - began:.1f} s: {self.url}")
        self._fitting = asyncio.create_task(self._tell_misfits(), name="misfits")

    async def _tell_misfits(self) -> None:
        """A run that waits for somebody is not looked at by its coordinator till then: its author wants to know now."""
        words = ["replay", self._app, "--open", "--limit", str(MISFITS_OF), "--url", self.url, "--json"]
        environment = {**os.environ, **self.child.environment}
        del environment["POINTSMAN_STORE"]  # by the API: the file is the coordinator's alone
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            runs = json.loads(said)["runs"]
        except (ValueError, KeyError):  # the next change came first, or the coordinator went
            return
        for run in runs:
            if not run["fits"]:
                told = f"the log has {run['recorded']}, the code does {run['produced']}"
                self._say("error", f"run {run['run']} does not fit: {told if run['recorded'] else run['message']}")

    async def _is_ready(self) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT_S
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            while self.child.exit_code is None and time.monotonic() < deadline:
                if await self.child.is_ready(http):
                    return True
                await asyncio.sleep(POLL_S)
        return False

    async def _end(self) -> None:
        if self._lock is None or not hasattr(self, "child"):
            return
        tasks = [task for task in (self._fitting, self.child.keeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._fitting = self.child.keeper = None
        await self.child.end()


def _named(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
