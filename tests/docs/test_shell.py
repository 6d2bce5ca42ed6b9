"""The commands of README and documents, typed one after the other against a coordinator on PostgreSQL that runs the
page's program, or the one that `pointsman init` makes."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from pointsman import App
from pointsman.cli.init.command import project
from pointsman.cli.main import app as cli
from pointsman.node import Node, NodeSettings
from pointsman.stores.postgres.migrate import migrate
from pointsman.stores.postgres.store import PostgresStore

ROOT = Path(__file__).parents[2]
WAIT_S = 20.0
ELSEWHERE = {
    "make": "the whole of it is CI's",
    "pip": "tests/acceptance/test_tutorial.py",
    "cd": "tests/acceptance/test_tutorial.py",
    "curl": "tests/unit/serving registers agents so",
    "pointsman up": "tests/acceptance/test_up.py",
    "pointsman dev": "tests/acceptance/test_dev.py",
    "pointsman init": "tests/unit/cli/test_init.py",
    "pointsman demo": "CI runs it",
    "pointsman chaos": "tests/chaos",
    "pointsman coordinator": "tests/acceptance",
    "pointsman router": "tests/acceptance",
    "pointsman agents serve": "tests/acceptance/test_failing.py",
    "pointsman worker": "tests/acceptance",
    "pointsman simulate": "tests/docs/test_simulate.py",
    "pointsman runs start provoke": "tests/docs/test_fail_well.py, every kind of it",
    "pointsman replay shop:app --open --store": "tests/unit/cli/test_replay.py, in a process that it may replace",
}
"""Commands that run, but not here: what they begin is long, or is not there."""
PROGRAMS = {
    "README.md": "support",
    "docs/howto/change-code.md": "shop",
    "docs/howto/event-driven.md": "desk",
    "docs/howto/people.md": "refunds",
}
"""Pages whose commands are about their own first program, and its module's name. The others': what `init` makes."""
FAILING = """
from pointsman import AgentRefused, App, Run

app = App("failing")


@app.agent
async def billing(text: str) -> str:
    raise AgentRefused("not today")


@app.workflow()
async def support(run: Run, text: str) -> str:
    return str(await run.call(billing, text))
"""


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    """What is to be typed here, without comments."""
    lines = [line[2:].split("  #")[0].strip() for block in blocks(page, "console")
             for line in block.replace("\\\n", " ").splitlines() if line.startswith("$ ")]  # fmt: skip
    return [line for line in lines if not line.startswith(tuple(ELSEWHERE))]


PAGES = [
    page for page in ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
    if page != "docs/tutorial.md" and commands(page)
]  # fmt: skip
"""The tutorial has a test of its own."""


@contextmanager
def coordinator(app: App, dsn: str) -> Iterator[str]:
    """One in a thread, as `pointsman coordinator` runs it; gives its URL."""
    up, down = threading.Event(), threading.Event()
    node = Node(app, PostgresStore(dsn), NodeSettings())

    async def live() -> None:
        await node.start()
        up.set()
        await asyncio.to_thread(down.wait)
        await node.stop()

    thread = threading.Thread(target=lambda: asyncio.run(live()))
    thread.start()
    assert up.wait(WAIT_S)
    try:
        yield f"http://{node.address}"
    finally:
        down.set()
        thread.join(WAIT_S)


def program(page: str, name: str | None) -> App:
    source = blocks(page, "python")[0] if name is not None else project("desk")["app.py"]
    source = FAILING if page == "docs/operations.md" else source
    source = (ROOT / "examples/documents.py").read_text() if page == "docs/howto/examples.md" else source
    module = ModuleType(name or "app")
    sys.modules[module.__name__] = module
    exec(compile(source, page, "exec"), module.__dict__)  # noqa: S102  that is the test
    found: App = module.app
    return found


@pytest.fixture
async def database(fresh_database: str) -> str:
    await migrate(fresh_database)
    return fresh_database


class Typist:
    """Types commands of one page, where what the page speaks of is there."""

    def __init__(self, http: httpx.Client, database: str) -> None:
        self._http = http
        self._database = database
        self._answered: set[str] = set()

    def types(self, line: str) -> Result:
        done = CliRunner().invoke(cli, self._words(line))
        says = f"{line}\n{done.output}"
        if line.startswith("pointsman doctor") and done.exit_code:
            assert "1 problems" in done.output, says
            assert "fsync is off" in done.output, says  # the tests' server
        else:
            assert done.exit_code == 0, says
        return done

    def _words(self, line: str) -> list[str]:
        """As a shell would split it, with what stands for something put in its place."""
        if "RUN_ID" in line:
            line = line.replace("RUN_ID", self._http.get("/v1/runs").json()["runs"][0]["id"])
        if "TASK" in line:
            task = self.task()
            line = line.replace("TASK", task)
            if " show " not in line and " assign " not in line:
                self._answered.add(task)
            if "DIGEST" in line:
                line = line.replace("DIGEST", self._http.get(f"/v1/tasks/{task}").json()["digest"])
        line = re.sub(r"(?<=--store )\S+", shlex.quote(self._database), line)
        return shlex.split(line)[1:]

    def task(self) -> str:
        """One that is open."""
        found = self.until("/v1/tasks", lambda said: [one["id"] for one in said["tasks"] if one["status"] == "open"])
        return str(next(task for task in found if task not in self._answered))

    def until(self, path: str, found: Callable[[Any], Any]) -> Any:
        for _ in range(400):
            if value := found(self._http.get(path).json()):
                return value
            threading.Event().wait(0.05)
        raise AssertionError(path)

    def prepares(self, page: str) -> None:
        """What the page speaks of as if it were there."""
        if page == "docs/howto/budgets.md":
            self.types("pointsman budgets set tenant acme --usd 100")
        if page == "docs/howto/change-code.md":
            self.types("pointsman runs start order 5")
        if page == "docs/howto/agents-that-fail-well.md":
            for run in ("a", "b"):
                self.types(f"""pointsman runs start support '{{"text": "my lawyer"}}' --id {run}""")
                self.until("/v1/tasks", lambda said, run=run: run in [one["run"] for one in said["tasks"]])
        if page == "docs/operations.md":
            for run in ("order-7", "ticket-4711"):
                self.types(f"""pointsman runs start support '"hello"' --id {run}""")
                self.until(f"/v1/runs/{run}", lambda said: said["ended_at"])
        if page == "docs/howto/people.md":
            for run in ("a", "b", "c", "d"):
                self.types(f"""pointsman runs start refund '{{"customer": "eve", "amount": 30}}' --id {run}""")
                self.until("/v1/tasks", lambda said, run=run: run in [one["run"] for one in said["tasks"]])


@pytest.mark.parametrize("page", PAGES)
async def test_every_command_does_what_it_says(
    page: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = program(page, PROGRAMS.get(page))
    monkeypatch.chdir(tmp_path)
    typed = commands(page)
    with coordinator(app, database) as url, httpx.Client(base_url=url, trust_env=False) as http:
        monkeypatch.setenv("POINTSMAN_URL", url)
        monkeypatch.setenv("POINTSMAN_USER", "ann")
        if any(line.startswith("pointsman doctor") for line in typed):
            monkeypatch.setenv("POINTSMAN_STORE", database)
        typist = Typist(http, database)

        def types() -> None:
            typist.prepares(page)
            for line, _, into in (one.partition(" > ") for one in typed):
                done = typist.types(line)
                if into:
                    Path(into.strip()).write_text(done.stdout)

        await asyncio.to_thread(types)


def test_there_are_commands_to_type() -> None:
    assert len(PAGES) >= 7
    assert sum(len(commands(page)) for page in PAGES) >= 35


def test_what_runs_elsewhere_is_somewhere() -> None:
    for why in ELSEWHERE.values():
        for path in re.findall(r"tests/[\w/]+(?:\.py)?", why):
            assert (ROOT / path).exists(), path
