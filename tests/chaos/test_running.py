"""A cluster that runs already: its processes are found and killed, what clients were told is judged, and it goes on."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import pytest

from pointsman.cluster import LocalCluster
from pointsman.testing.chaos.run import new_directory
from pointsman.testing.chaos.running import NotRunning, RunningSite

CHAOS = [sys.executable, "-m", "pointsman.cli.main", "chaos"]
WORK = '{"steps": 3, "step_s": 0.05}'


async def chaos(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *CHAOS, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 200)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.slow
async def test_a_running_cluster_loses_a_coordinator_and_nothing_else() -> None:
    directory = new_directory()
    cluster = LocalCluster("pointsman.testing.chaos.app:app", 2, directory=directory / "up")
    try:
        await cluster.start()
        before = cluster.pids()
        given = ("--data", str(directory / "up"), "--workflow", "drill", "--short", "--json")
        code, out, err = await chaos(*given, "--input", WORK, "--schedule", "kill-one")
        assert code == 0, out + err
        (report,) = json.loads(out)["reports"]
        assert report["verdict"]["starts"] > 0
        assert report["verdict"]["faults"] == 1
        assert sum(before[name] != pid for name, pid in cluster.pids().items()) == 1
        code, _, err = await chaos(*given, "--input", '"no work"', "--schedule", "partition")
        assert (code, "leave out --data" in err) == (2, True), err
        code, _, err = await chaos("--data", str(directory / "up"), "--workflow", "nobody", "--schedule", "kill-one")
        assert (code, "unknown_workflow" in err) == (1, True), err
        await cluster.stop()
        assert not (directory / "up" / "processes.json").exists()
    finally:
        await cluster.stop()
        shutil.rmtree(directory)


def test_what_does_not_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="pointsman up --data"):
        RunningSite(tmp_path, data=tmp_path, url=None, dsn=None)
    with pytest.raises(NotRunning, match="--store"):
        RunningSite(tmp_path, data=None, url="http://127.0.0.1:1", dsn=None)
