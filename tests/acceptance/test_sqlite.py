"""One coordinator process on a SQLite file: killed in the middle of its runs, and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

APP = f"{Path(__file__).parent / 'app.py'}:app"
RUNS = 20
STEPS = 12
WAIT_S = 60


@contextmanager
def coordinator(path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process, and what it says of itself."""
    command = [sys.executable, "-m", "pointsman.cli.main", "coordinator", APP, "--store", f"sqlite:///{path}", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_a_kill_costs_no_run_and_no_event(tmp_path: Path) -> None:
    path, names = tmp_path / "pointsman.db", [f"run-{number}" for number in range(RUNS)]
    with coordinator(path) as (process, about):
        url = f"http://{about['address']}"
        for name in names:
            started = httpx.post(f"{url}/v1/runs", json={"workflow": "chain", "id": name, "input": STEPS})
            assert started.status_code == 201
        before: dict[str, list[Any]] = {}
        while min((len(events) for events in before.values()), default=0) < 6:
            before = {name: httpx.get(f"{url}/v1/runs/{name}/events").json()["events"] for name in names}
        process.send_signal(signal.SIGKILL)
        process.wait()
    with coordinator(path) as (process, again):
        assert again["incarnation"] > about["incarnation"]
        assert again["hash_seed"] == about["hash_seed"]
        url = f"http://{again['address']}"
        for name in names:
            result = httpx.get(f"{url}/v1/runs/{name}/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S)
            assert result.json()["output"] == STEPS
            after = httpx.get(f"{url}/v1/runs/{name}/events").json()["events"]
            assert after[: len(before[name])] == before[name]
            assert [event["sequence"] for event in after] == list(range(1, len(after) + 1))
            assert sum(event["type"] == "CallCompleted" for event in after) == STEPS
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=WAIT_S) == 0


def test_a_second_process_on_the_file_ends_with_a_name(tmp_path: Path) -> None:
    with coordinator(tmp_path / "pointsman.db"):
        store = f"sqlite:///{tmp_path / 'pointsman.db'}"
        command = [sys.executable, "-m", "pointsman.cli.main", "retention", "--store", store]
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (second.returncode, second.stdout) == (3, "")
        assert "store_in_use" in second.stderr
