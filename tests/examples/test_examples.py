"""The programs in `examples/` do what they say, and keep to it whatever fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pointsman.cli.load import load_app
from pointsman.kernel.errors import LoopDetected
from pointsman.testing import Emits, RunNotCompleted, SyncWorkflowEnvironment

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LINES_MAX = 80


def program(name: str) -> SyncWorkflowEnvironment:
    return SyncWorkflowEnvironment(load_app(f"{ROOT}/examples/{name}.py:app"))


def agents_of(env: SyncWorkflowEnvironment) -> list[str]:
    return [call.agent for call in env.calls()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_how_to_run_it(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= LINES_MAX
    assert f"pointsman dev examples/{path.name}:app" in source
    assert "pointsman runs start " in source


# -- research ---------------------------------------------------------------------------------------------------------


def research(sources: list[str]) -> Any:
    with program("research") as env:
        return env.run("research", {"question": "tides", "sources": sources})


def test_a_source_that_fails_costs_its_answer() -> None:
    report = research(["books", "the moon", "papers"])
    assert report.text == "tides: books on tides; papers on tides"
    assert (report.asked, report.answered, list(report.failed)) == (3, 2, ["the moon"])


def test_what_is_over_the_budget_is_not_asked() -> None:
    report = research(["a", "b", "c", "d", "e", "f"])
    assert 2 <= report.answered <= 4
    assert all("budget_exceeded" in why for why in report.failed.values())
    assert report.answered + len(report.failed) == 6


def test_no_source_at_all_is_a_failure() -> None:
    with pytest.raises(RunNotCompleted, match="0 of 1 gave a result"):
        research(["the moon"])


# -- order saga -------------------------------------------------------------------------------------------------------


def test_an_order_is_done() -> None:
    with program("order_saga") as env:
        assert env.run("order", {"item": "a globe", "cents": 4_900}).startswith("ship a globe")
        assert agents_of(env) == ["reserve", "charge", "ship"]


@pytest.mark.parametrize(
    ("order", "asked"),
    [
        ({"item": "a globe", "cents": 1_000_000}, ["reserve", "charge", "refund", "release"]),
        ({"item": "the moon", "cents": 1}, ["reserve", "release"]),
    ],
)
def test_an_order_that_fails_is_undone_last_first(order: Any, asked: list[str]) -> None:
    with program("order_saga") as env:
        with pytest.raises(RunNotCompleted, match="refused"):
            env.run("order", order)
        assert agents_of(env) == asked
        inputs = {call.agent: call.input for call in env.calls()}
        assert inputs["release"] == inputs["reserve"]["reservation"]


# -- documents --------------------------------------------------------------------------------------------------------


def ends(document: dict[str, str]) -> tuple[list[Any], list[str]]:
    with program("documents") as env:
        return env.run("document.received", document), agents_of(env)


def test_a_document_is_judged_until_it_is_good_enough() -> None:
    done, agents = ends({"name": "lease.txt", "text": "A fine house. Rent is 900 a month."})
    assert [(end.event, end.data["facts"], end.data["rounds"]) for end in done] == [
        ("facts.accepted", ["Rent is 900 a month"], 2)
    ]
    assert agents == ["read", "extract", "judge", "extract", "judge"]


def test_what_can_not_be_read_is_set_aside() -> None:
    done, agents = ends({"name": "blank.txt", "text": " "})
    assert [(end.event, end.data["name"]) for end in done] == [("document.set_aside", "blank.txt")]
    assert agents == ["read", "set_aside"]


def test_a_judge_that_is_never_content_ends_in_a_loop_that_is_found() -> None:
    with program("documents") as env:
        env.script("judge", lambda extracted: Emits("facts.rejected", {"document": extracted.document, "remark": "no"}))
        with pytest.raises(RunNotCompleted, match=LoopDetected.code):
            env.run("document.received", {"name": "lease.txt", "text": "Rent is 900."})


# -- whatever fails ----------------------------------------------------------------------------------------------------

SIMULATED = f"{ROOT}/tests/examples/simulated.py:"


@pytest.mark.parametrize(
    ("app", "lines"),
    [
        ("orders", [{"workflow": "order", "input": {"item": "a globe", "cents": cents}} for cents in (900, 900_000)]),
        ("documents", [{"input": {"name": "a", "text": text}} for text in ("Well. 1 fine day.", "")]),
        ("coordination", [{"workflow": "build", "input": where} for where in ("rock", "swamp")]
         + [{"workflow": "article", "input": "tides"}]),
    ],
)  # fmt: skip
def test_they_hold_in_the_simulator(app: str, lines: list[Any], tmp_path: Path) -> None:
    """Coordinators die and the database fails at any await: in a saga's middle, and between an event and its agents."""
    inputs = tmp_path / "inputs.jsonl"
    inputs.write_text("\n".join(json.dumps(line) for line in lines))
    command = ["simulate", f"{SIMULATED}{app}", "--inputs", str(inputs), "--seeds", "5", "--jobs", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "pointsman.cli.main", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    summary = json.loads(done.stdout) if done.stdout else done.stderr
    assert done.returncode == 0, summary
    assert summary["violations"] == []
    assert summary["takeovers"] > 0
