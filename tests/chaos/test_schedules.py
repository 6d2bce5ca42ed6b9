"""Schedules in their short form, on real processes, by the command; and coordinators that are broken on purpose."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pointsman.testing.chaos.app import Work
from pointsman.testing.chaos.drill import Drill
from pointsman.testing.chaos.own import OwnSite
from pointsman.testing.chaos.run import new_directory
from pointsman.testing.chaos.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
CHAOS = [sys.executable, "-m", "pointsman.cli.main", "chaos"]
CHOSEN = ("lying-agent", "standby-asynchronous")
"""One that must hold, and the control that must lose. All of them: `make chaos`, and short in `.ci/run`."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(
        [*CHAOS, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280
    )


@pytest.mark.slow
def test_what_must_hold_of_schedules_holds_and_the_control_loses() -> None:
    chosen = [argument for name in CHOSEN for argument in ("--schedule", name)]
    done = run("--short", "--jobs", "2", "--json", *chosen)
    assert done.stdout, done.stderr
    reports = json.loads(done.stdout)["reports"]
    assert [report["schedule"] for report in reports] == list(CHOSEN)
    for report in reports:
        assert [check for check in report["checks"] if not check["holds"]] == [], report
        assert report["acknowledged"] > 0
        assert report["verdict"]["faults"] == SCHEDULES[report["schedule"]].short
    assert reports[-1]["verdict"]["lost"]
    assert done.returncode == 0


async def test_coordinators_that_are_broken_on_purpose_are_found_out() -> None:
    directory = new_directory()
    site = OwnSite(directory, app="tests.chaos.sabotaged:app")
    try:
        await site.start()
        one = dataclasses.replace(SCHEDULES["kill-one"], work=Work(steps=2, step_s=0.05), clients=4)
        report = await Drill(one, site, rounds=1, pause_s=0.2).run()
    finally:
        await site.stop()
        shutil.rmtree(directory)
    assert report.verdict.committed_repeated
    assert not report.holds


def test_there_are_enough_of_them_and_each_says_what_it_promises() -> None:
    assert len(SCHEDULES) >= 14
    for one in SCHEDULES.values():
        assert all((one.fault, one.sees, one.promised, one.not_promised)), one.name
        assert one.long >= one.short >= 1


def test_each_schedule_is_on_the_page_of_the_documentation() -> None:
    page = (ROOT / "docs/reference/failure-drills.md").read_text()
    for name, one in SCHEDULES.items():
        assert page.count(f"| `{name}` |") == 2, f"{name}: `make chaos` writes the page"
        assert one.fault in page, name
    assert {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")} == set(SCHEDULES)


def test_the_list_names_all_and_an_unknown_one_is_refused() -> None:
    listed = run("--list", "--json")
    assert [row["name"] for row in json.loads(listed.stdout)["schedules"]] == list(SCHEDULES)
    refused = run("--schedule", "earthquake")
    assert refused.returncode == 2
    assert "earthquake" in refused.stderr
    assert "kill-one" in refused.stderr
