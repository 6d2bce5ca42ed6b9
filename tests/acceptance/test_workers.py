"""Workers as processes: killed, stopped, told to leave, and at a call whose coordinator dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_up import COMMAND, WAIT_S, Up, data_directory, until, up

APP = f"{Path(__file__).with_name('worker_app.py')}:app"
SILENCE_S = 3.0
"""Long enough that only who was killed or stopped is ever silent."""

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Up]:
    options = ("--coordinators", "2", "--set", f"worker_silence_ms={SILENCE_S * 1000:.0f}", "--set", "drain_s=60")
    with data_directory() as data, up(data, *options, app=APP) as running:
        yield running


@pytest.fixture
def http(cluster: Up) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.url, trust_env=False, timeout=2 * WAIT_S) as client:
        yield client


@pytest.fixture
def started(cluster: Up) -> Iterator[ExitStack]:
    """Workers that a test starts end with it."""
    with ExitStack() as stack:
        yield stack


@contextmanager
def worker(cluster: Up, *options: str) -> Iterator[subprocess.Popen[str]]:
    """One that every coordinator knows."""
    process = subprocess.Popen(
        [*COMMAND, "worker", APP, "--url", cluster.url, "--wait", "1", "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        until(lambda: all(said["worker"] in known for known in connected(cluster)), "every coordinator knows it")
        yield process
    finally:
        process.kill()
        _, log = process.communicate(timeout=WAIT_S)
        assert "at its own address" not in log, "the router is all that a worker has to reach"


def connected(cluster: Up) -> list[set[str]]:
    """Who has a poll waiting, at each of the coordinators."""
    return [
        {row["id"] for row in ask(address, "/v1/workers").json()["workers"] if row["is_polling"]}
        for address in addresses(cluster)
    ]


def addresses(cluster: Up) -> list[str]:
    return [row["address"] for row in cluster.coordinators().values()]


def ask(address: str, path: str) -> httpx.Response:
    return httpx.get(f"http://{address}{path}", trust_env=False)


class Film:
    """A run with one call, at which some worker is."""

    def __init__(self, http: httpx.Client, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.http = http
        self.directory = directory
        response = http.post("/v1/runs", json={"workflow": "film", "input": str(directory)})
        assert response.status_code == 201, response.text
        self.run = str(response.json()["id"])

    def begun(self, count: int) -> list[dict[str, Any]]:
        """What workers began, once it is so many."""
        journal = self.directory / "begun"
        return list(
            until(
                lambda: (
                    journal.exists()
                    and len(lines := journal.read_text().splitlines()) >= count
                    and [*map(json.loads, lines)]
                ),
                f"{count} attempts begun",
            )
        )

    def open(self) -> None:
        (self.directory / "gate").touch()

    def events(self, kind: str) -> list[dict[str, Any]]:
        page = self.http.get(f"/v1/runs/{self.run}/events").json()
        return [event["data"] for event in page["events"] if event["type"] == kind]

    def rendered(self) -> dict[str, Any]:
        """The call's recorded result, of which there is one."""
        (result,) = until(lambda: self.events("CallCompleted"), "the call has completed")
        return dict(result["output"])

    def end(self) -> dict[str, Any]:
        self.http.post(f"/v1/runs/{self.run}/signals/end")
        result = self.http.get(f"/v1/runs/{self.run}/result", params={"timeout": WAIT_S}).json()
        assert result["status"] == "completed", result
        return dict(result["output"])


def test_a_killed_workers_call_goes_to_another_under_the_same_key(
    cluster: Up, http: httpx.Client, started: ExitStack, tmp_path: Path
) -> None:
    workers = {w.pid: w for w in (started.enter_context(worker(cluster)) for _ in range(2))}
    film = Film(http, tmp_path / "film")
    (first,) = film.begun(1)
    workers[first["pid"]].kill()
    _, second = film.begun(2)
    assert second["pid"] != first["pid"]
    assert (first["attempt"], second["attempt"], first["key"]) == (1, 2, second["key"])
    (failed,) = film.events("AttemptFailed")
    assert failed["failure"]["kind"] == "worker_lost"
    # Another one is started on its own, and has the next call, for the first is still busy.
    third = started.enter_context(worker(cluster))
    other = Film(http, tmp_path / "other")
    assert other.begun(1)[0]["pid"] == third.pid
    film.open()
    other.open()
    assert film.end() == second
    other.end()


def refused(cluster: Up) -> int:
    pages = [ask(address, "/metrics").text for address in addresses(cluster)]
    return sum(
        int(re.findall(r"^pointsman_worker_results_refused_total (\d+)", page, re.MULTILINE)[0]) for page in pages
    )


def test_a_worker_that_stood_still_brings_its_result_too_late(
    cluster: Up, http: httpx.Client, started: ExitStack, tmp_path: Path
) -> None:
    for _ in range(2):
        started.enter_context(worker(cluster))
    film, before = Film(http, tmp_path / "film"), refused(cluster)
    (first,) = film.begun(1)
    os.kill(first["pid"], signal.SIGSTOP)
    _, second = film.begun(2)
    film.open()
    assert film.rendered() == second
    os.kill(first["pid"], signal.SIGCONT)
    others = [Film(http, tmp_path / name) for name in ("second", "third")]
    assert {other.begun(1)[0]["pid"] for other in others} == {first["pid"], second["pid"]}, (
        "it goes on with other calls"
    )
    for other in others:
        other.open()
        other.end()
    assert refused(cluster) <= before + 1, "unless it was told first that nobody waits for its result, it brought it"
    assert film.end() == second
    assert len(film.events("CallCompleted")) == 1


def test_a_worker_that_is_told_to_leave_finishes_or_gives_back(
    cluster: Up, http: httpx.Client, started: ExitStack, tmp_path: Path
) -> None:
    leaving = started.enter_context(worker(cluster))
    film = Film(http, tmp_path / "film")
    film.begun(1)
    hasty = started.enter_context(worker(cluster, "--drain", "0"))
    leaving.send_signal(signal.SIGTERM)
    until(lambda: all(len(known) == 2 for known in connected(cluster)), "it goes on saying that it lives")
    other = Film(http, tmp_path / "other")
    assert other.begun(1)[0]["pid"] == hasty.pid, "it takes nothing more"
    film.open()
    assert film.rendered()["pid"] == leaving.pid, "it finishes what it is at"
    assert leaving.wait(WAIT_S) == 0

    hasty.send_signal(signal.SIGTERM)
    assert hasty.wait(WAIT_S) == 0
    heir = started.enter_context(worker(cluster))
    begun = other.begun(2)
    assert [(line["pid"], line["attempt"]) for line in begun] == [(hasty.pid, 1), (heir.pid, 1)]
    other.open()
    assert other.end()["pid"] == heir.pid
    assert film.end()["pid"] == leaving.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_coordinator_dies_while_a_worker_is_at_a_call(
    cluster: Up, http: httpx.Client, started: ExitStack, tmp_path: Path, number: signal.Signals
) -> None:
    for _ in range(2):
        started.enter_context(worker(cluster))
    film = Film(http, tmp_path / "film")
    (first,) = film.begun(1)
    owner = until(lambda: cluster.owner(film.run), "somebody owns the run")
    row = cluster.coordinators()[owner]
    os.kill(pid_at(row["address"]), number)
    until(lambda: cluster.owner(film.run) not in (None, owner), "it has another owner")
    film.open()
    assert film.rendered() == first, "by the worker that was at it, as the same attempt"
    assert film.begun(1) == [first], "nobody made it again"
    assert film.end() == first
    until(lambda: len(cluster.coordinators()) == 2, "the supervisor has started it again")


def pid_at(address: str) -> int:
    """The process that listens there."""
    port = int(address.rpartition(":")[2])
    inode = next(
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == port
    )
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if any(str(fd.readlink()) == f"socket:[{inode}]" for fd in (entry / "fd").iterdir()):
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError(f"nobody listens at {address}")
