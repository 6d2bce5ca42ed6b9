"""One process of the cluster, or the place of a dead one: started, watched, ended.

Must not know what the process does, nor the others.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import httpx

from pointsman.cluster.backoff import Backoff

COMMAND: Final = (sys.executable, "-m", "pointsman.cli.main")
STOP_TIMEOUT_S: Final = 20.0
"""Beyond `drain_s`."""
KILL_TIMEOUT_S: Final = 5.0
LAST_LINES: Final = 15
PR_SET_PDEATHSIG: Final = 1
HOST: Final = "127.0.0.1"
"""Where all of them listen."""
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.03
"""How often to ask a process whether it is ready."""

logger = logging.getLogger("pointsman.cluster")


@dataclass
class Child:
    """`pid` is None while it is dead; `starts` counts its processes."""

    name: str
    kind: Literal["router", "coordinator"]
    address: str
    log: Path
    arguments: Sequence[str] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    keeper: asyncio.Task[None] | None = field(default=None, repr=False)
    starts: int = 0
    backoff: Backoff = field(default_factory=Backoff, repr=False)
    is_leaving: bool = False
    stop_timeout_s: float = STOP_TIMEOUT_S
    on_spawn: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when it has another process; must not raise."""

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    @property
    def exit_code(self) -> int | None:
        """Of the last process, once it has ended."""
        return None if self.process is None else self.process.returncode

    async def is_ready(self, http: httpx.AsyncClient) -> bool:
        """Does it take work, by its own word?"""
        try:
            return (await http.get(f"http://{self.address}/ready")).is_success
        except httpx.HTTPError:
            return False

    async def spawn(self) -> None:
        """A new process in this place, under the same name and address. In a session of its own: Ctrl-C
        reaches the supervisor alone, which stops them in order."""
        environment = {**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"}
        # Children listen on loopback alone, so a token meant for some other cluster would only shut them off.
        environment.pop("POINTSMAN_TOKEN", None)
        environment.pop("POINTSMAN_ANNOUNCE_TOKEN", None)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *COMMAND, *self.arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, start_new_session=True,
            )  # fmt: skip
        self.starts += 1
        self.backoff.began()
        self.on_spawn()

    def keep(self, *, restart: bool) -> None:
        """Watch it from now on: say when it dies and, unless told otherwise, start it again."""
        self.keeper = asyncio.create_task(self._keep(restart=restart), name=f"keep {self.name}")

    async def _keep(self, *, restart: bool) -> None:
        while self.process is not None:
            code = await self.process.wait()
            what = f"{self.name} (pid {self.process.pid}) {_how_it_ended(code)}"
            if not restart:
                logger.warning("%s; it is not started again", what)
                return
            self.backoff.died()
            if code == 0:  # it was told to, and not by us: whoever replaces it so wants it back at once
                logger.warning("%s; starting it again", what)
            else:
                await self.backoff.pause(what)
            while not await self._has_spawned():
                await self.backoff.pause(f"{self.name} is dead")
            logger.warning("%s is pid %d now", self.name, self.process.pid)

    async def _has_spawned(self) -> bool:
        """False: it could not be started. That may pass: a full disk, no free process."""
        try:
            await self.spawn()
        except OSError as error:
            logger.error("%s can't be started: %s", self.name, error)
            return False
        return True

    def send(self, number: signal.Signals) -> int:
        """Send a signal; the pid that got it. Raises: ProcessLookupError (it is dead)."""
        pid = self.pid
        if pid is None or self.process is None:
            raise ProcessLookupError(f"{self.name} is dead")
        self.process.send_signal(number)
        return pid

    async def end(self) -> None:
        """SIGTERM, and SIGKILL if it has not gone in time. Dead is fine."""
        self.is_leaving = True
        for number, wait_s in ((signal.SIGTERM, self.stop_timeout_s), (signal.SIGKILL, KILL_TIMEOUT_S)):
            if self.process is None or self.process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), wait_s)
                return
            logger.warning("%s (pid %d) did not leave on %s", self.name, self.process.pid, number.name)

    def hurry(self) -> None:
        """A second SIGTERM, if it has had one."""
        if self.is_leaving and self.pid is not None:
            self.send(signal.SIGTERM)

    def last_words(self) -> str:
        """The last line of its log that says what went wrong."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        except OSError:
            lines = []
        said = [line for line in lines if line.startswith("pointsman: ")] or [line for line in lines if line.strip()]
        return said[-1].removeprefix("pointsman: ") if said else "it said nothing"


def _how_it_ended(code: int) -> str:
    if code == 0:
        return "left"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def die_with_parent(parent: int) -> None:
    """SIGTERM to this process when its parent dies; if that died already, leave at once.

    Other systems than Linux have no such thing: there, children of a killed supervisor go on until stopped.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)
