"""`pointsman replay`: new code against the logs of open runs, by the API, from a store, and from files."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pointsman import App, Run, StartRun
from pointsman.cli import replay
from pointsman.kernel.events import Recorded
from pointsman.node import Node, NodeSettings
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.sqlite.store import SqliteStore
from pointsman.testing.replay import Fit, fit
from tests.unit.cli.conftest import Served

SAME = """
from pointsman import App, Run

app = App("tests")


@app.agent
async def greeter(name: str) -> str:
    return name


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go"))


@app.agent
async def pricer(what: str) -> int:
    return 1


@app.workflow()
async def quote(run: Run, what: str) -> int:
    return int(await run.call("pricer", what, person="What does it cost?"))
"""
OTHER = SAME.replace('wait_for("go")', 'call(greeter, "ann")')


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same.py").write_text(SAME)
    (tmp_path / "other.py").write_text(OTHER)
    (tmp_path / "bare.py").write_text("from pointsman import App\napp = App('bare')\n")


def replayed(served: Served, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what is said of each run by its id."""
    done = served.cli("replay", *words, "--json")
    assert done.exit_code in (0, 1), done.stderr
    said = json.loads(done.stdout)
    assert said["misfits"] == sum(not run["fits"] for run in said["runs"])
    assert said["checked"] == len(said["runs"])
    return done.exit_code, {run["run"]: run for run in said["runs"]}


def test_code_that_fits_and_code_that_does_not(served: Served) -> None:
    served.invoke("start", "waits", "--id", "replayed-1")
    code, found = replayed(served, "same.py:app", "--open", "--workflow", "waits")
    assert (code, found["replayed-1"]["fits"]) == (0, True)
    code, found = replayed(served, "other.py:app", "--open", "--workflow", "waits")
    wrong = found["replayed-1"]
    assert (code, wrong["code"]) == (1, "non_deterministic_workflow")
    assert "go" in wrong["recorded"]
    assert "greeter#1" in wrong["produced"]
    said = served.cli("replay", "other.py:app", "--open", "--workflow", "waits")
    assert f"the log has  {wrong['recorded']}" in said.stdout
    assert f"the code does {wrong['produced']}" in said.stdout
    code, found = replayed(served, "bare.py:app", "--open", "--workflow", "waits", "--limit", "1")
    assert (code, [run["code"] for run in found.values()]) == (1, ["unknown_workflow"])


def test_a_run_whose_inputs_stand_in_pieces_is_read_whole(served: Served, tmp_path: Path) -> None:
    text = " ".join(f"word {number}" for number in range(1_000))
    served.invoke("start", "quote", json.dumps(text), "--id", "replayed-2")
    (task,) = [one for one in served.json("inbox", "ls")["tasks"] if one["run"] == "replayed-2"]
    code, found = replayed(served, "same.py:app", "--open", "--workflow", "quote")
    assert (found["replayed-2"]["message"], code, found["replayed-2"]["warnings"]) == ("", 0, [])

    log = tmp_path / "log.json"
    log.write_text(served.cli("runs", "show", "replayed-2", "--json", "--inputs").stdout)
    assert replayed(served, "same.py:app", str(log))[0] == 0
    log.write_text(served.cli("runs", "show", "replayed-2", "--json").stdout)
    assert "with `runs show ID --json --inputs`" in served.cli("replay", "same.py:app", str(log)).stderr
    served.cli("inbox", "answer", task["id"], "1")


def test_wrong_use_is_named(served: Served, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{")
    for words, said in (
        (["same.py:app"], "one of them"),
        (["same.py:app", "no.json", "--open"], "one of them"),
        (["same.py:app", "no.json", "--limit", "3"], "go with --open"),
        (["same.py:app", "no.json"], "no log of a run"),
        (["same.py:app", "there-is-none.json"], "No such file"),
        (["there-is-none.py:app", "--open"], "no such file"),
    ):
        done = served.cli("replay", *words)
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


def test_a_store_is_read_without_a_coordinator(tmp_path: Path) -> None:
    async def begin() -> None:
        app = App("tests")

        @app.workflow()
        async def waits(run: Run) -> str:
            return str(await run.wait_for("go"))

        async with app.running(SqliteStore(str(tmp_path / "runs.db"))) as runs:
            for number in range(3):
                await runs.start(StartRun("waits", b"null", id=f"run-{number}"))

    asyncio.run(begin())
    command = [sys.executable, "-m", "pointsman.cli.main", "replay", "other.py:app", "--open", "--json"]
    done = subprocess.run(
        [*command, "--store", f"sqlite:///{tmp_path / 'runs.db'}", "--limit", "2"],
        env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert (said["checked"], said["misfits"]) == (2, 2)
    assert {run["run"] for run in said["runs"]} == {"run-1", "run-2"}


@pytest.mark.parametrize(("events", "bytes_max"), [(500, 1), (500, 400), (2, 400), (1, 10**9)])
async def test_a_log_that_comes_in_several_answers_is_read_whole(
    events: int, bytes_max: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, app, read = f"sqlite:///{tmp_path / 'runs.db'}", App("tests"), dict[str, list[int]]()

    @app.agent
    async def same(n: int) -> int:
        return n

    @app.workflow()
    async def waits(run: Run) -> str:
        for n in range(3):
            await run.call(same, n)
        return str(await run.wait_for("go"))

    def noted(app: App, run: str, rows: list[Recorded]) -> Fit:
        read[run] = [row.sequence for row in rows]
        return fit(app, run, rows)

    monkeypatch.setattr(replay, "PAGE", events)
    monkeypatch.setattr(replay, "PAGE_BYTES", bytes_max)
    monkeypatch.setattr(replay, "fit", noted)
    async with app.running(SqliteStore(str(tmp_path / "runs.db"))) as runs:
        for n in range(3):
            await runs.start(StartRun("waits", b"null", id=f"run-{n}"))
    fits = await replay._of_store(app, url, None, None)
    assert [one.code for one in fits] == [""] * 3
    store = SqliteStore(str(tmp_path / "runs.db"))
    await store.open()
    heads = await store.log.heads(sorted(read))
    await store.close()
    assert read == {run: list(range(1, head.sequence + 1)) for run, head in heads.items()}
    assert len(read) == 3


SHOWS_ITS_SEED = """
import os
import sys

from same import app

print("hash seed", os.environ.get("PYTHONHASHSEED"), hash("text"), file=sys.stderr)
"""


@pytest.mark.parametrize(("of_the_cluster", "taken"), [("77", "77"), ("", "5")])
async def test_by_the_api_too_the_hashes_are_those_of_the_cluster(
    of_the_cluster: str, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shows.py").write_text(SHOWS_ITS_SEED)
    monkeypatch.setenv("PYTHONHASHSEED", of_the_cluster)
    node = Node(App("tests"), MemoryStore(MemoryDatabase()), NodeSettings())
    await node.start()
    assert node.describe()["hash_seed"] == (of_the_cluster or None)
    command = [sys.executable, "-m", "pointsman.cli.main", "replay", "shows.py:app", "--open"]
    process = await asyncio.create_subprocess_exec(
        *command, "--url", f"http://{node.address}", env={**os.environ, "PYTHONHASHSEED": "5"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    await node.stop()
    shown = [line for line in said.decode().splitlines() if line.startswith("hash seed")]
    assert (process.returncode, len(shown)) == (0, 1), said
    assert shown[0].startswith(f"hash seed {taken} ")
