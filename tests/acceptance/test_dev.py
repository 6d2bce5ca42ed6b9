"""`pointsman dev` with real processes: saved code takes over, broken code replaces nothing, Ctrl-C ends it cleanly."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

WAIT_S = 30.0
COMMAND = [sys.executable, "-m", "pointsman.cli.main"]
PROGRAM = """
from pointsman import App, Run

app = App("desk")


@app.agent
async def greet(name: str) -> str:
    print("greeting", name)
    return f"hello {name}"


@app.workflow()
async def welcome(run: Run, name: str) -> str:
    first = await run.call(greet, name)
    await run.wait_for("go")
    return first + ", " + await run.call(greet, name)


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go", expect=str))
"""

pytestmark = pytest.mark.slow


class Dev:
    """The process, and the lines that it says."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "dev", "desk.py:app", "--port", "0", *options], cwd=folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._queue.put(line.rstrip())

    def says(self, what: str) -> str:
        """The next line that has `what` in it."""
        deadline = time.monotonic() + WAIT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                line = self._queue.get(timeout=left)
            except queue.Empty:
                break
            self.lines.append(line)
            if what in line:
                return line
        raise AssertionError(f"{what!r} was not said within {WAIT_S} s: {self.lines}")

    def end(self) -> int:
        os.kill(self.process.pid, signal.SIGINT)
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    (tmp_path / "desk.py").write_text(PROGRAM)
    made = Dev(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end()


def test_code_is_written_while_a_run_waits(dev: Dev, tmp_path: Path) -> None:
    program = tmp_path / "desk.py"
    url = dev.says("ready in").rpartition(" ")[2]
    with httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S) as http:
        assert http.post("/v1/runs", json={"workflow": "welcome", "id": "fits", "input": "ann"}).status_code == 201
        assert http.post("/v1/runs", json={"workflow": "waits", "id": "does-not", "input": None}).status_code == 201
        dev.says("greeting ann")

        program.write_text(PROGRAM + "\ndef broken(:\n")
        dev.says("SyntaxError")
        assert "the code before it goes on" in dev.lines[-1]
        assert http.get("/v1/runs/fits").json()["status"] in ("running", "parked")

        changed = PROGRAM.replace('"hello {name}"', '"goodbye {name}"').replace('"go", expect=str', '"stop"')
        program.write_text(changed)
        dev.says("reloaded in")
        told = dev.says("run does-not does not fit: the log has SignalAwaited")
        assert "the code does" in told
        http.post("/v1/runs/fits/signals/go", json=None, headers={"idempotency-key": "1"})
        assert http.get("/v1/runs/fits/result", params={"timeout": 20}).json()["output"] == "hello ann, goodbye ann"
        dev.says("fits RunCompleted")

        http.post("/v1/runs/does-not/signals/go", json="now", headers={"idempotency-key": "1"})
        dev.says("does-not RunStopped")
        program.write_text(PROGRAM)
        dev.says("reloaded in")
        assert http.get("/v1/runs/does-not/result", params={"timeout": 20}).json()["output"] == "now"
    assert dev.end() == 0
    assert (tmp_path / ".pointsman" / "dev.db").exists()


def test_a_program_that_never_worked_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "desk.py").write_text("import nothing_of_the_kind\n")
    dev = Dev(tmp_path)
    try:
        dev.says("no module 'nothing_of_the_kind'")
        assert "nothing runs" in dev.lines[-1]
        (tmp_path / "desk.py").write_text(PROGRAM)
        dev.says("reloaded in")
    finally:
        assert dev.end() == 0
