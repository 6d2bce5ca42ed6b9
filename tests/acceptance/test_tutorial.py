"""The tutorial, to the letter: the built wheel in a fresh environment, every command in the order of the page, every
line of output that the page shows.

What is not to the letter: the wheel stands in for what an index would give, ports are free ones, the runs that outlive
a coordinator are shorter, and the placeholders PID and TASK are filled in as a reader would.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pointsman.node import free_port
from pointsman.stores.postgres.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
WAIT_S = 60.0
TEN_MINUTES_S = 600
LONG = "150"
STEP_S = 0.2
RUNS = 4
LOOKS = ("pointsman inbox ls", "pointsman runs ls")
TERMINALS = ("pointsman dev", "pointsman up")
"""What stays in the first terminal."""

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


def steps() -> list[tuple[str, list[str]]]:
    """Every command, with the lines that the page shows of its output."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def shows(output: str, wanted: str) -> bool:
    """Is there a line as on the page? An ellipsis there stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in wanted.replace("TASK", "…").split("…")]
    pattern = ".*".join(parts)
    return any(re.search(pattern, " ".join(line.split())) for line in output.splitlines())


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S} s: {what}"
        time.sleep(0.1)


class Reader:
    """Somebody who types what the page says, in two terminals."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self._wheel = wheel
        self._folder = folder
        self._port = free_port("127.0.0.1")
        self._environment = {
            **os.environ, "POINTSMAN_URL": f"http://127.0.0.1:{self._port}", "XDG_STATE_HOME": str(folder / "state"),
            "COLUMNS": "200",
        }  # fmt: skip
        self._before = "true"
        self._first: subprocess.Popen[bytes] | None = None
        self._task = ""
        self._command_s = 1.0
        self.screen = folder / "first-terminal"

    def types(self, line: str, shown: list[str]) -> None:
        if line.startswith(TERMINALS):
            self._begins(line, shown)
        elif line.startswith(("cd ", "source ")):
            self._before += f" && {line}"
        else:
            self._does(line, shown)

    def _does(self, line: str, shown: list[str]) -> None:
        if line.startswith("pip install"):
            line = re.sub(r"'?\bpointsman(\[[\w-]+\])?'?(?= |$)", lambda m: f"'{self._wheel}{m[1] or ''}'", line)
        if "PID" in line:
            pid = re.search(r"coordinator-1 +(\d+)", self.screen.read_text())
            assert pid is not None, self.screen.read_text()
            line = line.replace("PID", pid[1])
        # The first of the long runs is still under way when the last is started, and for a while after that.
        length = str(min(round((RUNS * self._command_s + 5) / STEP_S), int(LONG)))
        line = line.replace("TASK", self._task).replace(LONG, length)
        shown = [wanted.replace(LONG, length) for wanted in shown]
        began = time.monotonic()
        give_up = time.monotonic() + WAIT_S
        while True:  # a reader who does not see yet what the page shows looks again
            done = subprocess.run(
                ["bash", "-c", f"{self._before} && {line}"], cwd=self._folder, env=self._environment,
                capture_output=True, text=True, timeout=TEN_MINUTES_S, check=False,
            )  # fmt: skip
            missing = [wanted for wanted in shown if not shows(done.stdout, wanted)]
            if not missing or not line.startswith(LOOKS) or time.monotonic() > give_up:
                break
        assert (done.returncode, missing) == (0, []), f"{line}\n{done.stdout}\n{done.stderr}"
        if shown and shown[0].startswith("TASK"):
            self._task = re.findall(r"^(t\S+) +open", done.stdout, re.MULTILINE)[-1]
        if line.startswith("pointsman runs show"):
            self._command_s = time.monotonic() - began
        if "epoch" in line:
            assert int(done.stdout) > 0, "the dead coordinator had runs, and others have them now"
        if line.startswith("sed "):
            until(lambda: "reloaded in" in self.screen.read_text(), "the new code is at work")
        if line.startswith("mv "):
            self.leaves()

    def _begins(self, line: str, shown: list[str]) -> None:
        with self.screen.open("wb") as screen:
            self._first = subprocess.Popen(
                ["bash", "-c", f"{self._before} && exec {line} --port {self._port}"], cwd=self._folder,
                env=self._environment, stdout=screen, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until(lambda: all(shows(self.screen.read_text(), wanted) for wanted in shown), f"{line} says {shown}")

    def leaves(self) -> None:
        """Ctrl-C in the first terminal."""
        first, self._first = self._first, None
        if first is not None and first.poll() is None:
            first.send_signal(signal.SIGINT)
            assert first.wait(WAIT_S) == 0, self.screen.read_text()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that the embedded server's user may enter; a root session's server runs as somebody else."""
    with tempfile.TemporaryDirectory(prefix="pointsman-tutorial-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path
        for server in path.glob("state/pointsman/*/postgres"):
            EmbeddedPostgres(server).stop()


def test_a_new_user_gets_to_the_end(folder: Path) -> None:
    built = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        ".",
    ]
    subprocess.run(built, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("pointsman-*.whl")
    reader = Reader(folder, wheel)
    began = time.monotonic()
    took: dict[str, float] = {}
    try:
        for line, shown in steps():
            before = time.monotonic()
            reader.types(line, shown)
            took[line] = time.monotonic() - before
    finally:
        reader.leaves()
    print("\n".join(f"{seconds:6.1f} s  {line}" for line, seconds in took.items()))
    assert time.monotonic() - began < TEN_MINUTES_S
    assert len(took) >= 20
