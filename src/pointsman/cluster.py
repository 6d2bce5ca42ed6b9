"""A whole cluster on this machine: router, coordinators and, unless a store is given, PostgreSQL, as processes of one
supervisor. `pointsman up` and the demo stand on it.

Responsible for: which processes there are, on which ports; starting the dead again; stopping all in order. Must not
know: how anything is shown, and the app, which only its coordinators load.

    directory/postgres/   the embedded server       directory/logs/NAME.log   what a process says
    directory/up.lock     one supervisor at a time

A child asks the kernel for SIGTERM at its supervisor's death (see `die_with_parent`). The embedded server alone outlives
a supervisor that was killed: it is adopted by the next one of the same directory.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Literal

import httpx

from pointsman.kernel.errors import PointsmanError
from pointsman.node import free_port, hash_seed
from pointsman.stores.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresFailed, EmbeddedPostgresMissing
from pointsman.stores.postgres.migrate import migrate

HOST: Final = "127.0.0.1"
COMMAND: Final = (sys.executable, "-m", "pointsman.cli.main")
BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 10.0
HEALTHY_S: Final = 30.0
"""A process that lived so long begins again with the shortest pause when it dies."""
READY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.03
STOP_TIMEOUT_S: Final = 20.0
KILL_TIMEOUT_S: Final = 5.0
LAST_LINES: Final = 15
PR_SET_PDEATHSIG: Final = 1

logger = logging.getLogger("pointsman.cluster")


class ClusterFailed(PointsmanError):
    """A process of the cluster did not come up."""

    code = "cluster_failed"


class DirectoryInUse(PointsmanError):
    """Another supervisor runs on this directory: stop it, or give another --data."""

    code = "directory_in_use"


class EmbeddedServerFailed(PointsmanError):
    """The embedded PostgreSQL did not start."""

    code = "embedded_postgres"


@dataclass
class Child:
    """One process, or the place of one that is dead. `starts` counts them."""

    name: str
    kind: Literal["router", "coordinator"]
    arguments: Sequence[str]
    address: str
    log: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    started_at: float = 0.0
    backoff_s: float = BACKOFF_S_MIN
    keeper: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """None while it is dead."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None


class LocalCluster:
    """Processes of one app. `await start()`, then `url`; `await stop()` twice is once.

    Args:
        app: `module:attribute` or `file.py:attribute`, as `pointsman coordinator` takes it.
        coordinators: how many.
        directory: for logs and the embedded server; made if it is not there.
        store: DSN; None for an embedded PostgreSQL in `directory`.
        port: the router's; 0 for any free one.
        restart: start a dead process again (0.5 s after its death, doubling to 10 s while it keeps dying).
        settings: of every coordinator, by the names of `--set`.
        environment: added to the coordinators' own.
        postgres_settings: of the embedded server.
    """

    def __init__(
        self,
        app: str,
        coordinators: int = 3,
        *,
        directory: Path,
        store: str | None = None,
        port: int = 0,
        restart: bool = True,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        if coordinators < 1:
            raise ValueError("a cluster has at least one coordinator")
        self.directory = directory.expanduser().absolute()
        self.dsn = store
        self.children: dict[str, Child] = {}
        self.postgres = None if store else EmbeddedPostgres(self.directory / "postgres", settings=postgres_settings)
        self._app = app
        self._count = coordinators
        self._port = port
        self._restart = restart
        self._settings = dict(settings or {})
        self._environment = dict(environment or {})
        self._hash_seed = 0
        self._lock: IO[str] | None = None
        self._is_stopping = False
        self._stopped: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The router's base URL."""
        return f"http://{self.children['router'].address}"

    @property
    def logs(self) -> Path:
        return self.directory / "logs"

    def pids(self) -> dict[str, int]:
        """The living processes, by name."""
        return {child.name: child.pid for child in self.children.values() if child.pid is not None}

    def coordinators(self) -> list[Child]:
        return [child for child in self.children.values() if child.kind == "coordinator"]

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything up and ready: the router answers and knows every coordinator. What came up is stopped on failure.

        Raises:
            DirectoryInUse, EmbeddedServerFailed, ClusterFailed, AddressInUse; SchemaFromFuture, StoreUnavailable.
        """
        self._take_directory()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        self.dsn = self.dsn or await self._start_postgres()
        await migrate(self.dsn)
        self._hash_seed = await hash_seed(self.dsn)
        router = f"{HOST}:{free_port(HOST, self._port)}"
        self._add("router", "router", ["router", *_at(router)], router)
        ports: set[int] = set()
        while len(ports) < self._count:
            ports.add(free_port(HOST))
        extra = [part for name, value in self._settings.items() for part in ("--set", f"{name}={value}")]
        for number, port in enumerate(sorted(ports), start=1):
            name, address = f"coordinator-{number}", f"{HOST}:{port}"
            arguments = ["coordinator", self._app, "--name", name, *_at(address), "--router", f"http://{router}"]
            self._add(name, "coordinator", [*arguments, *extra], address)
        for child in self.children.values():
            await self._spawn(child)
        await self.wait_ready()
        for child in self.children.values():
            child.keeper = asyncio.create_task(self._keep(child), name=f"keep {child.name}")

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every process is ready, and the router knows every coordinator.

        Raises:
            ClusterFailed: one has ended (with the end of what it said), or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        waiting = {child.name: f"http://{child.address}/ready" for child in self.children.values()}
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            while waiting:
                for name, url in list(waiting.items()):
                    if await _answers(http, url):
                        del waiting[name]
                    elif not self._restart or self.children[name].keeper is None:
                        self._check_alive(self.children[name])
                if waiting and time.monotonic() > deadline:
                    raise ClusterFailed(f"not ready after {timeout_s:g} s: {', '.join(waiting)}; see {self.logs}")
                if waiting:
                    await asyncio.sleep(POLL_S)
            await self._wait_known(http, deadline)

    async def _wait_known(self, http: httpx.AsyncClient, deadline: float) -> None:
        names = {child.name for child in self.coordinators() if child.pid is not None}
        while True:
            known = await routed(http, self.url)
            if names <= known:
                return
            if time.monotonic() > deadline:
                raise ClusterFailed(f"the router has not heard of {', '.join(names - known)}; see {self.logs}")
            await asyncio.sleep(POLL_S)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one process and return its pid. Raises: KeyError, ProcessLookupError (it is dead)."""
        child = self.children[name]
        pid = child.pid
        if pid is None or child.process is None:
            raise ProcessLookupError(f"{name} is dead")
        child.process.send_signal(number)
        return pid

    async def wait_dead(self, name: str, pid: int) -> None:
        """Until the process that `name` was is gone."""
        child = self.children[name]
        if child.process is not None and child.process.pid == pid:
            await child.process.wait()

    async def stop(self) -> None:
        """Coordinators hand over and leave, then the router, then PostgreSQL. Nothing is left behind."""
        self._is_stopping = True
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop(), name="cluster stop")
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        keepers = [child.keeper for child in self.children.values() if child.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(_end(child) for child in self.coordinators()))
        await asyncio.gather(*(_end(child) for child in self.children.values()))
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.stop)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- processes ------------------------------------------------------------------------------------------------

    def _add(self, name: str, kind: Literal["router", "coordinator"], arguments: list[str], address: str) -> None:
        arguments = [*arguments, "--with-parent", str(os.getpid())]
        self.children[name] = Child(name, kind, arguments, address, self.logs / f"{name}.log")

    async def _spawn(self, child: Child) -> None:
        """A new process in this place, under the same name and address. Secrets go by the environment, not by `ps`."""
        environment = {**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"}
        environment.pop("POINTSMAN_TOKEN", None)
        if child.kind == "coordinator":
            environment |= {"POINTSMAN_STORE": self.dsn or "", "PYTHONHASHSEED": str(self._hash_seed)}
        with child.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the supervisor alone, which stops them in order.
            child.process = await asyncio.create_subprocess_exec(
                *COMMAND, *child.arguments, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                start_new_session=True,
            )  # fmt: skip
        child.starts += 1
        child.started_at = time.monotonic()

    async def _keep(self, child: Child) -> None:
        """Wait for its death, say so, and start it again."""
        while child.process is not None:
            code = await child.process.wait()
            lived_s = time.monotonic() - child.started_at
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            if not self._restart:
                logger.warning("%s (pid %d) %s; it is not started again", child.name, child.process.pid, how)
                return
            child.backoff_s = BACKOFF_S_MIN if lived_s > HEALTHY_S else child.backoff_s
            logger.warning(
                "%s (pid %d) %s; starting it again in %g s", child.name, child.process.pid, how, child.backoff_s
            )
            await asyncio.sleep(child.backoff_s)
            child.backoff_s = min(child.backoff_s * 2, BACKOFF_S_MAX)
            await self._spawn(child)
            logger.warning("%s is pid %d now", child.name, child.process.pid)

    def _check_alive(self, child: Child) -> None:
        if child.process is not None and child.process.returncode is not None:
            raise ClusterFailed(
                f"{child.name} ended with exit code {child.process.returncode}: {last_words(child.log)} (all of it: {child.log})"
            )

    # -- place and store ------------------------------------------------------------------------------------------

    def _take_directory(self) -> None:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = (self.directory / "up.lock").open("a")
        except OSError as error:
            raise ClusterFailed(f"{self.directory}: {error.strerror}; give another directory with --data") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            self._lock = None
            raise DirectoryInUse(f"another supervisor runs on {self.directory}: stop it, or give another --data") from error

    async def _start_postgres(self) -> str:
        assert self.postgres is not None
        try:
            return await asyncio.to_thread(self.postgres.start)
        except (EmbeddedPostgresFailed, EmbeddedPostgresMissing, OSError) as error:
            raise EmbeddedServerFailed(str(error)) from error


async def routed(http: httpx.AsyncClient, url: str) -> set[str]:
    """Names of the coordinators that a router sends to."""
    try:
        answer = (await http.get(f"{url}/coordinators")).json()
    except (httpx.HTTPError, ValueError):
        return set()
    return {row["name"] for row in answer["coordinators"] if row["state"] == "live"}


def die_with_parent(parent: int) -> None:
    """SIGTERM to this process when its parent dies; if it died already, leave at once. Other systems than Linux have no
    such thing: there, a child of a killed supervisor goes on until it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def last_words(log: Path) -> str:
    """The last line of a log that says what went wrong."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:] if line.strip()]
    except OSError:
        return "it said nothing"
    named = [line for line in lines if line.startswith("pointsman: ")]
    said = named or lines
    return said[-1].removeprefix("pointsman: ") if said else "it said nothing"


def _at(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    return ["--host", host, "--port", port]


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    with suppress(httpx.HTTPError):
        return (await http.get(url)).is_success
    return False


async def _end(child: Child) -> None:
    """SIGTERM, and SIGKILL to what has not gone in time."""
    process = child.process
    if process is None or process.returncode is not None:
        return
    for number, wait_s in ((signal.SIGTERM, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), wait_s)
            return
        logger.warning("%s (pid %d) did not leave on %s", child.name, process.pid, number.name)
