"""A whole cluster on this machine: router, coordinators and, unless a store is given, PostgreSQL, as
processes of one supervisor. `pointsman up` and the demo stand on it.

Responsible for: which processes there are, on which ports; that they are ready; stopping all in order. Must
not know: how anything is shown, and the app, which only its coordinators load.

    directory/postgres/   the embedded server       directory/logs/NAME.log   what a process says
    directory/up.lock     one supervisor at a time  directory/processes.json  its router's URL, and who has which pid

A child asks the kernel for SIGTERM at its supervisor's death (`die_with_parent`). The embedded server alone
outlives a supervisor that was killed: the next one of the same directory adopts it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Literal

import httpx

from pointsman.cluster.child import HOST, POLL_S, READY_TIMEOUT_S, Child
from pointsman.cluster.errors import ClusterFailed, EmbeddedServerFailed
from pointsman.cluster.locking import take_directory
from pointsman.cluster.server import keep
from pointsman.node import free_port, hash_seed
from pointsman.stores.postgres.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresFailed,
    EmbeddedPostgresMissing,
)
from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.urls import is_redis

PROCESSES: Final = "processes.json"

logger = logging.getLogger("pointsman.cluster")


class LocalCluster:
    """Processes of one app. `await start()`, then `url`; `await stop()` twice is once.

    Args:
        app: `module:attribute` or `file.py:attribute`, as `pointsman coordinator` takes it.
        coordinators: how many.
        directory: for logs and the embedded server; made if it is not there.
        store: DSN; None for an embedded PostgreSQL in `directory`.
        stores: another way to the same store for single coordinators, by name: through a proxy, say.
        port: the router's; 0 for any free one.
        restart: start a dead process again, and the embedded server too (0.5 s after its death, doubling to 10 s while
            it keeps dying).
        settings: of every coordinator, by the names of `--set`.
        options: further words of every coordinator's command line.
        environment: added to every process's own.
        postgres_settings: of the embedded server.
    """

    def __init__(
        self,
        app: str,
        coordinators: int = 3,
        *,
        directory: Path,
        store: str | None = None,
        stores: Mapping[str, str] | None = None,
        port: int = 0,
        restart: bool = True,
        settings: Mapping[str, object] | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        postgres_settings: Mapping[str, str] | None = None,
    ) -> None:
        if coordinators < 1:
            raise ValueError("a cluster has at least one coordinator")
        self.directory = directory.expanduser().absolute()
        self.logs = self.directory / "logs"
        self.dsn = store
        self.children: dict[str, Child] = {}
        self.postgres = None if store else EmbeddedPostgres(self.directory / "postgres", settings=postgres_settings)
        self._app = app
        self._stores = dict(stores or {})
        self._count = coordinators
        self._port = port
        self._restart = restart
        self._settings = dict(settings or {})
        self._options = list(options)
        self._environment = dict(environment or {})
        self._server_keeper: asyncio.Task[None] | None = None
        self._lock: IO[str] | None = None
        self._stopped: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The router's base URL, once it has started."""
        return f"http://{self.children['router'].address}"

    def pids(self) -> dict[str, int]:
        """The living processes, by name."""
        return {child.name: child.pid for child in self.children.values() if child.pid is not None}

    def coordinators(self) -> list[Child]:
        return [child for child in self.children.values() if child.kind == "coordinator"]

    # -- life ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Everything up and ready. What came up is stopped again on failure.

        Raises:
            DirectoryInUse, EmbeddedServerFailed, ClusterFailed, AddressInUse, SchemaFromFuture, SchemaDiffers,
            StoreUnavailable.
        """
        self._lock = take_directory(self.directory, "up.lock")
        self.logs.mkdir(exist_ok=True)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        self.dsn = self.dsn or await self._start_postgres()
        if not is_redis(self.dsn):
            await migrate(self.dsn)
        seed = await hash_seed(self.dsn)
        router = f"{HOST}:{free_port(HOST, self._port)}"
        self._add("router", "router", router, ["router"], {})
        # Whoever can reach this cluster is on this machine: so may its agents be, and they find the API at the router.
        arguments = ["coordinator", self._app, "--router", f"http://{router}", "--agents-private"]
        arguments += ["--callback", f"http://{router}"]
        for name, value in self._settings.items():
            arguments += ["--set", f"{name}={value}"]
        arguments += self._options
        # Secrets go by the environment, not by what `ps` shows.
        for number, port in enumerate(_free_ports(self._count), start=1):
            name = f"coordinator-{number}"
            environment = {"POINTSMAN_STORE": self._stores.get(name, self.dsn), "PYTHONHASHSEED": str(seed)}
            self._add(name, "coordinator", f"{HOST}:{port}", [*arguments, "--name", name], environment)
        for child in self.children.values():
            await child.spawn()
        await self.wait_ready()
        for child in self.children.values():
            child.keep(restart=self._restart)
        if self.postgres is not None:
            keeping = keep(self.postgres, self.dsn, restart=self._restart)
            self._server_keeper = asyncio.create_task(keeping, name="keep postgresql")

    async def stop(self) -> None:
        """Coordinators hand over and leave, then the router, then PostgreSQL. Nothing is left behind."""
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop(), name="cluster stop")
        await asyncio.shield(self._stopped)

    def hurry(self) -> None:
        """While it stops: processes that are leaving leave at once."""
        for child in self.children.values():
            child.hurry()

    async def _stop(self) -> None:
        if self._lock is None:
            return  # what runs in the directory is another supervisor's
        keepers = [child.keeper for child in self.children.values() if child.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(child.end() for child in self.coordinators()))
        await asyncio.gather(*(child.end() for child in self.children.values()))
        if self._server_keeper is not None:  # last: what leaves needs the server
            self._server_keeper.cancel()
            await asyncio.gather(self._server_keeper, return_exceptions=True)
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.stop)
        (self.directory / PROCESSES).unlink(missing_ok=True)
        self._lock.close()

    # -- ready and dead -------------------------------------------------------------------------------------

    async def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until every process is ready, and the router knows every coordinator.

        Raises:
            ClusterFailed: one has ended that nobody starts again, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as http:
            for child in self.children.values():
                while not await child.is_ready(http):
                    self._check_alive()
                    if time.monotonic() > deadline:
                        raise ClusterFailed(f"{child.name} is not ready after {timeout_s:g} s; see {child.log}")
                    await asyncio.sleep(POLL_S)
            wanted = {child.name for child in self.coordinators()}
            while not wanted <= (known := await _routed(http, self.url)):
                if time.monotonic() > deadline:
                    raise ClusterFailed(f"the router has not heard of {', '.join(sorted(wanted - known))}")
                await asyncio.sleep(POLL_S)

    def _check_alive(self) -> None:
        for child in self.children.values():
            is_kept = self._restart and child.keeper is not None
            if child.exit_code is not None and not is_kept:
                raise ClusterFailed(
                    f"{child.name} ended with exit code {child.exit_code}: {child.last_words()} (its log: {child.log})"
                )

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal one process; the pid that got it. Raises: KeyError, ProcessLookupError (it is dead)."""
        return self.children[name].send(number)

    async def wait_dead(self, name: str, pid: int) -> None:
        """Until the process that `name` was is gone."""
        process = self.children[name].process
        if process is not None and process.pid == pid:
            await process.wait()

    # -- parts ----------------------------------------------------------------------------------------------

    def _add(
        self, name: str, kind: Literal["router", "coordinator"], address: str, arguments: list[str],
        environment: Mapping[str, str],
    ) -> None:  # fmt: skip
        host, _, port = address.rpartition(":")
        arguments = [*arguments, "--host", host, "--port", port, "--with-parent", str(os.getpid())]
        environment = {**self._environment, **environment}
        child = Child(name, kind, address, self.logs / f"{name}.log", arguments, environment)
        child.stop_timeout_s += float(str(self._settings.get("drain_s", 0.0)))
        child.on_spawn = self._write_processes
        self.children[name] = child

    def _write_processes(self) -> None:
        """For whoever wants to do something to one of them (`pointsman chaos --data`). Without it the cluster runs as
        well, so a full disk is no reason to end."""
        new = self.directory / f"{PROCESSES}.new"
        try:
            new.write_text(json.dumps({"url": self.url, "processes": self.pids()}))
            new.rename(self.directory / PROCESSES)
        except OSError as error:
            logger.error("%s is not up to date: %s", self.directory / PROCESSES, error)

    async def _start_postgres(self) -> str:
        assert self.postgres is not None
        try:
            return await asyncio.to_thread(self.postgres.start)
        except (EmbeddedPostgresFailed, EmbeddedPostgresMissing, OSError) as error:
            raise EmbeddedServerFailed(str(error)) from error


def _free_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port(HOST))
    return sorted(ports)


async def _routed(http: httpx.AsyncClient, url: str) -> set[str]:
    """Names of the coordinators that a router sends to."""
    try:
        rows = (await http.get(f"{url}/router/coordinators")).json()["coordinators"]
        return {row["name"] for row in rows if row["state"] == "live"}
    except (httpx.HTTPError, ValueError, KeyError):
        return set()
