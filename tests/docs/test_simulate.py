"""The page on the simulator: its programs have the bugs that it says, the command finds them, and mended they are
clean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "simulate.md").read_text()
SHOP, CLOCK = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(source: str, *words: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / "program.py").write_text(source)
        done = CliRunner().invoke(app, ["simulate", "program.py:app", *words, "--jobs", "1", "--json"])
        return done.exit_code, json.loads(done.stdout) if done.exit_code < 2 else {"says": done.stderr}

    return run


def checkers(summary: dict[str, Any]) -> set[str]:
    return {violation["what"].partition(":")[0] for violation in summary["violations"]}


def test_a_charge_without_its_key_is_found_and_its_seed_tells_the_story(simulate: Any) -> None:
    code, summary = simulate(SHOP, "--workflow", "order", "--input", "1250", "--seeds", "40")
    assert (code, checkers(summary)) == (1, {"effects_happen_once"})
    found = summary["violations"][0]
    assert found["reproduce"].endswith(f"--workflow order --input 1250 --seed {found['seed']} --trace")
    code, again = simulate(SHOP, "--input", "1250", "--seed", str(found["seed"]), "--trace")
    assert code == 1
    assert [one["what"] for one in again["violations"]] == [
        one["what"] for one in summary["violations"] if one["seed"] == found["seed"]
    ]
    story = "\n".join(again["trace"])
    assert all(word in story for word in ("EFFECT 'charge'", "CALL billing", "FAULT", "append", "HEALED"))
    assert "renew" not in story


def test_the_same_bug_is_found_on_the_sqlite_store(simulate: Any) -> None:
    code, summary = simulate(SHOP, "--input", "1250", "--seeds", "12", "--store", "sqlite")
    assert (code, checkers(summary)) == (1, {"effects_happen_once"})
    found = summary["violations"][0]
    assert found["reproduce"].endswith(f"--input 1250 --store sqlite --seed {found['seed']} --trace")


def test_with_the_key_it_is_clean(simulate: Any) -> None:
    mended = SHOP.replace("provider.charge(cents)", "provider.charge(cents, key=ctx.idempotency_key)")
    code, summary = simulate(mended, "--input", "1250", "--seeds", "40")
    assert (code, summary["violations"]) == (0, [])
    assert summary["runs_completed"] == summary["runs"] >= 100
    assert summary["takeovers"] > 0


def test_an_invariant_of_the_user_is_checked(simulate: Any) -> None:
    never = SHOP.replace('effect("charge", key=key)', "pass")
    code, summary = simulate(never, "--input", "1", "--seeds", "3")
    assert (code, checkers(summary)) == (1, {"who_is_mailed_has_paid"})


def test_a_clock_that_is_not_recorded_is_found(simulate: Any) -> None:
    code, summary = simulate(CLOCK, "--input", '"Ada"', "--seeds", "40")
    assert code == 1
    assert "everything_ends" in checkers(summary)
    mended = CLOCK.replace("time.time()", "run.now()")
    code, summary = simulate(mended, "--input", '"Ada"', "--seeds", "20")
    assert (code, summary["violations"]) == (0, [])


def test_the_order_of_a_set_is_found(simulate: Any) -> None:
    ordered = CLOCK.replace("now = time.time()  # the bug: run.now() is recorded, this is not", "now = 0.0").replace(
        'f"{name}, {now:.0f}"', 'str(list({name, "red", "green", "blue", "white", "black"}))'
    )
    code, summary = simulate(ordered, "--input", '"Ada"', "--seeds", "5")
    assert (code, checkers(summary)) == (1, {"replays_elsewhere"})


def test_a_sleep_of_a_month_signals_and_answers(simulate: Any, tmp_path: Path) -> None:
    source = """
from pointsman import AgentRefused, App, Run

app = App("patient")


@app.agent(fallback=[])
def clerk(text: str) -> str:
    raise AgentRefused()


@app.workflow()
async def wait(run: Run, text: str) -> list[str]:
    heard = await run.wait_for("go", expect=str)
    await run.sleep(30 * 86_400)
    return [heard, await run.call(clerk, text, person="what now?")]


@app.workflow()
async def other(run: Run, text: str) -> str:
    return text
"""
    line = {"workflow": "wait", "input": "a", "signals": [["go", "now"]], "answers": {"what now?": "home"}}
    (tmp_path / "lines").write_text(json.dumps(line) + "\n")
    code, summary = simulate(source, "--inputs", "lines", "--seeds", "10")
    assert (code, summary["violations"]) == (0, [])
    assert summary["runs_completed"] == summary["runs"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trace"], "give --seed too"),
        (["--input", "1", "--inputs", "x"], "not both"),
        (["--inputs", "nowhere"], "No such file"),
        (["--workflow", "nobody"], "no workflow 'nobody'"),
        (["--input", '"no number"'], "valid integer"),
        (["--input", "{"], "JSON"),
    ],
)
def test_what_makes_no_sense_is_said(simulate: Any, words: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(SHOP)
    done = CliRunner().invoke(app, ["simulate", "program.py:app", *words])
    assert done.exit_code in (1, 2)
    assert says in done.stderr
