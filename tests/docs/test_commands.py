"""What the documents tell an operator to type, to set and to watch is there."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pointsman.cli.main import app
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import METRICS
from pointsman.router import RouterSettings
from pointsman.router.metrics import Metrics as RouterMetrics

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = sorted(
    {
        line
        for page in PAGES
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
        for line in re.findall(r"^\$ (pointsman [^#>|\n]*)", block, re.MULTILINE)
    }
)


(USAGE_ERROR,) = typer.BadParameter.__bases__
"""Typer brings a click of its own, and shows no more of it."""


def parse(words: list[str]) -> None:
    """As the command would, without doing it. Raises USAGE_ERROR."""
    command: Any = typer.main.get_command(app)
    context: Any = None
    name: str | None = "pointsman"
    while True:
        context = command.make_context(name, words, parent=context)
        if not hasattr(command, "commands"):
            return
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_documents_is_one(line: str) -> None:
    parse(shlex.split(line)[1:])


def test_a_command_that_is_none_is_noticed() -> None:
    assert len(COMMANDS) >= 15
    for line in ("breakers shut billing", "agents disable", "budgets set agent billing --euro 5"):
        with pytest.raises(USAGE_ERROR):
            parse(line.split())


def test_every_metric_is_on_the_page_and_no_other() -> None:
    routers = RouterMetrics().text(clients=0, upstreams=0, coordinators=[]).decode()
    measured = {metric.name for metric in METRICS} | set(re.findall(r"^# TYPE (\w+)", routers, re.MULTILINE))
    assert set(re.findall(r"`(pointsman_\w+)", OPERATIONS)) == measured


def test_every_alarm_says_what_to_do_and_what_happens_without() -> None:
    page = OPERATIONS.split("\n## Alarms\n")[1].split("\n## ")[0]
    rows = [row for row in page.splitlines() if row.startswith("| ") and not row.startswith("| alarm |")]
    assert len(rows) >= 30
    assert all(len([cell for cell in row.strip("|").split(" | ") if cell.strip()]) == 4 for row in rows)


def test_every_command_within_the_text_is_one() -> None:
    lines = {" ".join(line.split()) for line in re.findall(r"`(pointsman [^`]+)`", OPERATIONS)}
    assert len(lines) >= 15
    for line in lines:
        words = shlex.split(line.replace(" ...", " TEXT"))[1:]
        if words in (["up"], ["coordinator"]):
            continue  # the process as such
        parse(words)


def test_every_limit_of_the_page_has_its_default() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(CoordinatorSettings)}
    routers = RouterSettings()
    defaults |= {name: getattr(routers, name) for name in routers.__struct_fields__}
    rows = re.findall(r"^\| `(\w+)` \| ([\d  .]+) \|", OPERATIONS, re.MULTILINE)
    said = {name: float(value.replace(" ", "").replace(" ", "")) for name, value in rows}
    assert said == {name: defaults[name] for name in said}
    assert {"board_ms", "slots_idle_ms", "retry_share", "retry_floor", "retry_window_s"} <= said.keys()


def test_the_options_of_the_page_are_those_of_the_coordinator() -> None:
    group: Any = typer.main.get_command(app)
    options = {name for option in group.commands["coordinator"].params for name in option.opts}
    options |= {name for option in group.commands["router"].params for name in option.opts}
    said = {
        name for row in re.findall(r"^\| `--.*", OPERATIONS, re.MULTILINE) for name in re.findall(r"`(--[\w-]+)", row)
    }
    assert said >= {
        "--agents-allow",
        "--callback",
        "--webhook",
        "--advertise",
        "--announce-token",
        "--host",
        "--max-rss",
    }
    assert said <= options


def commands() -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    left: list[tuple[str, Any]] = [("pointsman", typer.main.get_command(app))]
    while left:
        name, command = left.pop()
        found.append((name, command))
        left += [(f"{name} {sub}", one) for sub, one in getattr(command, "commands", {}).items()]
    return found


def test_every_command_has_a_line_that_fits_and_every_option_a_help() -> None:
    assert len(commands()) >= 30
    for name, command in commands():
        assert command.help, name
        if name != "pointsman":
            assert not command.get_short_help_str(63).endswith("..."), name
        for parameter in command.params:
            assert getattr(parameter, "hidden", False) or parameter.name == "help" or parameter.help, (name, parameter)
