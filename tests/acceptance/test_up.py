"""`pointsman up` with real processes: runs outlive a coordinator, streams go on, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from pointsman.stores.postgres.embedded import EmbeddedPostgres

APP = f"{Path(__file__).with_name('app.py')}:app"
COMMAND = [sys.executable, "-m", "pointsman.cli.main"]
UP_TIMEOUT_S = 40.0
WAIT_S = 20.0

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """What `condition` gives once it gives something true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_naming(text: str) -> list[int]:
    """Every process whose command line has `text` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def pointsman(*arguments: str, url: str, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=stderr, text=True,
        env={**os.environ, "POINTSMAN_URL": url},
    )  # fmt: skip


def answer(*arguments: str, url: str) -> Any:
    """Of a verb that must go well, with --json."""
    process = pointsman(*arguments, "--json", url=url)
    said, trouble = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, trouble
    return json.loads(said)


@dataclass
class Up:
    """A supervisor that is up, and what it said of itself."""

    process: subprocess.Popen[str]
    said: dict[str, Any]
    data: Path

    @property
    def url(self) -> str:
        return str(self.said["url"])

    def pid(self, name: str) -> int:
        return next(int(child["pid"]) for child in self.said["processes"] if child["name"] == name)

    def pids(self) -> list[int]:
        return [int(child["pid"]) for child in self.said["processes"]]

    def coordinators(self) -> dict[str, dict[str, Any]]:
        rows = httpx.get(f"{self.url}/router/coordinators", trust_env=False).json()["coordinators"]
        return {row["name"]: row for row in rows if row["state"] == "live"}

    def owner(self, run: str) -> str | None:
        async def ask() -> str | None:
            connection = await asyncpg.connect(self.said["dsn"])
            try:
                name: str | None = await connection.fetchval(
                    "SELECT c.name FROM runs r JOIN coordinators c ON c.incarnation = r.owner WHERE r.id = $1", run
                )
                return name
            finally:
                await connection.close()

        return asyncio.run(ask())


@contextmanager
def data_directory() -> Iterator[Path]:
    """One that the server's user may enter; a root session's server runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="pointsman-up-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        try:
            yield path
        finally:
            EmbeddedPostgres(path / "postgres").stop()


@contextmanager
def up(data: Path, *options: str, app: str = APP) -> Iterator[Up]:
    command = [*COMMAND, "up", app, "--port", "0", "--data", str(data), "--json", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()  # bounded: `up` gives up by itself
        if not line:
            raise AssertionError(process.communicate(timeout=UP_TIMEOUT_S)[1])
        yield Up(process, json.loads(line), data)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=UP_TIMEOUT_S)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Up]:
    with data_directory() as data, up(data) as running:
        yield running


def test_a_coordinators_death_costs_no_run_and_no_event(cluster: Up) -> None:
    url, steps = cluster.url, 60
    ids = [f"killed-{number}" for number in range(12)]
    with httpx.Client(base_url=url, trust_env=False) as http:
        for run in ids:
            assert http.post("/v1/runs", json={"workflow": "chain", "id": run, "input": steps}).status_code == 201
    tail = pointsman("runs", "tail", ids[0], "--json", url=url, stderr=subprocess.DEVNULL)
    assert tail.stdout is not None
    lines = [tail.stdout.readline() for _ in range(5)]

    victim = until(lambda: cluster.owner(ids[0]), "somebody owns the run")
    before = cluster.coordinators()[victim]
    old_pid = cluster.pid(victim)
    os.kill(old_pid, signal.SIGKILL)

    for run in ids:
        result = httpx.get(f"{url}/v1/runs/{run}/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S).json()
        assert (result["status"], result["output"]) == ("completed", steps)

    # Not `communicate`: it reads past what `readline` holds in its buffer.
    give_up = threading.Timer(WAIT_S, tail.kill)
    give_up.start()
    lines += tail.stdout.readlines()
    give_up.cancel()
    assert tail.wait(WAIT_S) == 0
    tail.stdout.close()
    events = [json.loads(line) for line in lines]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "RunCompleted"
    shown = answer("runs", "show", ids[0], url=url)
    assert shown["run"]["epoch"] > 1
    assert [event["sequence"] for event in shown["events"]] == [event["sequence"] for event in events]

    process = pointsman("runs", "show", ids[0], url=url)
    assert "claimed anew, by a coordinator: epoch 1 → 2" in process.communicate(timeout=WAIT_S)[0]

    # The supervisor starts it again: another process, a new incarnation, the same name and address.
    after = until(
        lambda: (now := cluster.coordinators().get(victim)) and now["incarnation"] > before["incarnation"] and now,
        "the dead coordinator is back",
    )
    assert after["address"] == before["address"]


def test_the_verbs_through_the_router(cluster: Up) -> None:
    url = cluster.url
    answer("runs", "start", "waits", "--id", "signalled", "--attribute", "case=7", url=url)
    answer("runs", "signal", "signalled", "go", '"now"', "--key", "one", url=url)
    assert answer("runs", "result", "signalled", "--timeout", str(WAIT_S), url=url)["output"] == "now"
    answer("runs", "start", "waits", "--id", "cancelled", url=url)
    answer("runs", "cancel", "cancelled", "--reason", "enough", url=url)
    stopped = pointsman("runs", "result", "cancelled", "--timeout", str(WAIT_S), url=url)
    assert "enough" in stopped.communicate(timeout=WAIT_S)[1]
    assert stopped.returncode == 1
    assert [run["id"] for run in answer("runs", "ls", "--attribute", "case=7", url=url)["runs"]] == ["signalled"]


def test_a_second_supervisor_of_a_directory_is_refused_and_the_first_goes_on(cluster: Up) -> None:
    second = subprocess.run(
        [*COMMAND, "up", APP, "--data", str(cluster.data)], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert second.returncode == 1
    assert second.stderr.startswith("pointsman: directory_in_use: ")
    answer("runs", "start", "waits", "--id", "still-here", url=cluster.url)  # nobody has stopped its PostgreSQL
    assert (cluster.data / "processes.json").exists()


def test_a_second_coordinator_of_a_live_name_is_refused(cluster: Up) -> None:
    dsn = EmbeddedPostgres(cluster.data / "postgres").start()
    second = subprocess.run(
        [*COMMAND, "coordinator", APP, "--name", "coordinator-2"], env={**os.environ, "POINTSMAN_STORE": dsn},
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "pointsman: coordinator_exists: " in second.stderr
    assert "Traceback" not in second.stderr


def test_an_app_that_does_not_exist_is_named(cluster: Up, tmp_path: Path) -> None:
    dsn = EmbeddedPostgres(cluster.data / "postgres").start()
    process = subprocess.run(
        [*COMMAND, "up", "tests.acceptance.app:nothing", "--port", "0", "--data", str(tmp_path), "--store", dsn],
        capture_output=True, text=True, timeout=UP_TIMEOUT_S, check=False,
    )  # fmt: skip
    assert process.returncode == 2
    assert "app_not_found: " in process.stderr
    assert "its apps: app" in process.stderr
    assert processes_naming("tests.acceptance.app:nothing") == []


def postmaster(data: Path) -> int:
    return int((data / "postgres/data/postmaster.pid").read_text().split()[0])


def test_the_embedded_postgresql_is_started_again_and_runs_go_on() -> None:
    ids = [f"outage-{number}" for number in range(6)]
    with data_directory() as data, up(data) as running, httpx.Client(base_url=running.url, trust_env=False) as http:
        for run in ids:
            assert http.post("/v1/runs", json={"workflow": "chain", "id": run, "input": 30}).status_code == 201
        pids, server = running.pids(), postmaster(data)
        os.kill(server, signal.SIGKILL)
        until(lambda: not lives(server), "the server is dead")
        for run in ids:
            assert answer("runs", "result", run, "--timeout", str(2 * WAIT_S), url=running.url)["output"] == 30
        assert postmaster(data) != server
        assert all(lives(pid) for pid in pids), "nobody else had to be started again"
        running.process.terminate()
        said = running.process.communicate(timeout=UP_TIMEOUT_S)[1]
        assert "postgresql is dead; starting it again in 0.5 s" in said
        assert "postgresql runs again" in said


def test_the_embedded_postgresql_stays_dead_with_no_restart() -> None:
    with data_directory() as data, up(data, "--coordinators", "1", "--no-restart") as running:
        assert running.process.stderr is not None
        os.kill(postmaster(data), signal.SIGKILL)
        give_up = threading.Timer(WAIT_S, running.process.kill)
        give_up.start()
        said = next((line for line in running.process.stderr if "postgresql is dead" in line), "")
        give_up.cancel()
        assert "it is not started again" in said
        assert not EmbeddedPostgres(data / "postgres").is_running()


def test_sigterm_leaves_nothing_behind_and_a_killed_supervisor_no_coordinator() -> None:
    with data_directory() as data:
        with up(data, "--coordinators", "2", "--no-restart") as first:
            http = httpx.post(f"{first.url}/v1/runs", json={"workflow": "chain", "id": "later", "input": 20})
            assert http.status_code == 201
            first.process.kill()
            until(lambda: not any(lives(pid) for pid in first.pids()), "children leave with their supervisor")
            assert processes_naming(str(data))  # the database alone goes on

        # The next one adopts it, and what was under way goes on.
        with up(data, "--coordinators", "1") as second:
            result = answer("runs", "result", "later", "--timeout", str(WAIT_S), url=second.url)
            assert result["output"] == 20
            second.process.send_signal(signal.SIGTERM)
            _, said = second.process.communicate(timeout=UP_TIMEOUT_S)
            assert second.process.returncode == 0, said
            assert not any(lives(pid) for pid in second.pids())
            assert processes_naming(str(data)) == []
