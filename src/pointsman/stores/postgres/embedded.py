"""A private PostgreSQL server in one directory: started, adopted, stopped.

Responsible for: initdb, start, stop, and finding again a server that another process started or that crashed.
Must not know: the schema, runs, asyncio. Everything here blocks: call it from a thread or before the loop.

    directory/data      the cluster           directory/server.log   the output of the server
    directory/password  of user postgres      directory/port         on 127.0.0.1
    directory/lock      one starter at a time
    directory/binaries-*  a copy of the server, made only where its user cannot read the installed one

It listens on TCP with a random password, and uses neither a Unix socket nor `trust`. The path of a socket is limited to
107 bytes and projects may lie deeper, so TCP would be needed anyway; and on a loopback port `trust` makes every local
user a superuser. The port is kept across restarts, so that an address stays valid.

See embedded_binaries.py for which binaries are used, as which user, and the errors.
"""

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pointsman.stores.postgres.embedded_binaries import (
    EmbeddedPostgresFailed,
    EmbeddedPostgresMissing,
    run,
    runnable_binaries,
    server_account,
)

__all__ = ["SETTINGS", "EmbeddedPostgres", "EmbeddedPostgresFailed", "EmbeddedPostgresMissing"]

SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "wal_level": "replica",
    "fsync": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "jit": "off",  # short statements only: compiling one costs more than running it
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
START_TIMEOUT_S: Final = 60
STOP_TIMEOUT_S: Final = 60
POLL_S: Final = 0.01
NO_SUCH_PID: Final = "999999999"  # above every kernel's limit (Linux: 4,194,304)


class EmbeddedPostgres:
    """The server of `directory` (created if it does not exist). `settings` add to and override `SETTINGS`.

    Settings take effect when the server starts; a server that is already running is adopted as it is.
    The server keeps running after this object and this process, until somebody calls `stop()` on the same directory.
    """

    def __init__(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.expanduser().resolve()
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self._port_file = self.directory / "port"
        self._password_file = self.directory / "password"
        self._settings = {**SETTINGS, **(settings or {})}

    def start(self) -> str:
        """Make sure that the server runs and return its DSN, for asyncpg and libpq alike."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._one_at_a_time():
            if self._postmaster() is None:
                account = server_account(self.directory)
                binaries = runnable_binaries(self.directory, account)
                if not self.data.exists():
                    self._initdb(binaries, account)
                self._launch(binaries, account)
            self._wait_until_ready()
        password = self._password_file.read_text().strip()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._port_file.read_text()}/postgres"

    def is_running(self) -> bool:
        """Whether the server lives, ready or not."""
        return self._postmaster() is not None

    def stop(self) -> None:
        """Shut down fast: open transactions roll back, nothing committed is lost. No effect if no server runs."""
        if not self.data.exists():
            return
        with self._one_at_a_time():
            self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL, as in a crash; its backends notice and exit. The next start recovers."""
        self._signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ── the running server ───────────────────────────────────────────────────────────────────────

    def _pid_lines(self) -> list[str]:
        """The lines of postmaster.pid: pid, data, start time, port, socket directory, address, memory key, status."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _postmaster(self) -> int | None:
        """The pid of this directory's living postmaster. A stale file may name another process or a zombie."""
        lines = self._pid_lines()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if _serves(pid, self.data) else None

    def _signal(self, number: signal.Signals) -> None:
        pid = self._postmaster()
        if pid is None:
            return
        os.kill(pid, number)
        _wait(lambda: not _serves(pid, self.data), STOP_TIMEOUT_S, f"server {pid} did not end on {number.name}")

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if self._postmaster() is None:
                raise EmbeddedPostgresFailed(f"the server ended while starting, see {self.log}")
            lines = self._pid_lines()
            return len(lines) >= 8 and lines[7].strip() in ("ready", "standby")

        _wait(ready, START_TIMEOUT_S, f"the server is not ready, see {self.log}")

    # ── making and starting it ───────────────────────────────────────────────────────────────────

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _initdb(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        """Create the cluster beside its place and rename it: an interrupted initdb leaves no half-made cluster."""
        unfinished = self.directory / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._password_file.unlink(missing_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24) + "\n")
        if account is not None:
            os.chown(self._password_file, account.pw_uid, account.pw_gid)
        authentication = ["--username=postgres", f"--pwfile={self._password_file}"]
        authentication += ["--auth-host=scram-sha-256", "--auth-local=reject"]
        locale = ["--encoding=UTF8", "--locale=C"]  # the same order of text on every machine
        result = run([binaries / "initdb", "-D", unfinished, *authentication, *locale], self.directory, account)
        if result.returncode != 0:
            raise EmbeddedPostgresFailed(f"initdb failed in {self.directory}\n{result.stderr.strip()}")
        unfinished.rename(self.data)

    def _launch(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        """Start the postmaster, detached. Two refusals are temporary: a port that was taken meanwhile, and backends of
        a killed postmaster that have not exited yet.
        """
        self._disown_stale_pid()
        start = [binaries / "pg_ctl", "start", "-D", self.data, "-l", self.log, "-w", "-t", START_TIMEOUT_S]
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self._configure()
            said_before = self.log.stat().st_size if self.log.exists() else 0
            result = run(start, self.directory, account)
            if result.returncode == 0:
                return
            said = self.log.read_bytes()[said_before:].decode(errors="replace") if self.log.exists() else ""
            passing = "could not bind" in said or "pre-existing shared memory block" in said
            if not passing or time.monotonic() > deadline:
                raise EmbeddedPostgresFailed(f"the server did not start\n{result.stderr.strip()}\n{said.strip()}")
            time.sleep(10 * POLL_S)

    def _configure(self) -> None:
        port = _free_port(int(self._port_file.read_text()) if self._port_file.exists() else 0)
        self._port_file.write_text(str(port))
        fixed = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": ""}
        quoted = {name: value.replace("'", "''") for name, value in {**self._settings, **fixed}.items()}
        lines = ["# Written at every start.", *(f"{name} = '{value}'" for name, value in quoted.items())]
        (self.data / "postgresql.conf").write_text("\n".join(lines) + "\n")

    def _disown_stale_pid(self) -> None:
        """Replace the pid in a stale postmaster.pid. After a crash it may be that of another process or a zombie (in a
        container, pids are soon reused), and PostgreSQL would not start. The file itself stays, because it names the
        shared memory that PostgreSQL checks.
        """
        lines = self._pid_lines()
        if lines:
            (self.data / "postmaster.pid").write_text("\n".join([NO_SUCH_PID, *lines[1:]]) + "\n")


# ── the machine ──────────────────────────────────────────────────────────────────────────────────


def _serves(pid: int, data: Path) -> bool:
    """Whether `pid` is the living postmaster of `data`; a zombie no longer has a command line."""
    if not Path("/proc/self/cmdline").exists():  # not Linux: a reused pid cannot be told from the server
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    try:
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else a port that the system picks."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(condition: Callable[[], bool], timeout_s: float, complaint: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise EmbeddedPostgresFailed(f"{complaint} (waited {timeout_s} s)")
        time.sleep(POLL_S)
