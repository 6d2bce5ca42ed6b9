"""A new project: its files are as good as ours, and its test passes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pointsman.cli.init.command import project
from pointsman.cli.main import app
from tests.unit.cli.conftest import command

ROOT = Path(__file__).parents[3]
FILES = {".gitignore", "README.md", "app.py", "pyproject.toml", "test_app.py"}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done = command(app, "init", "help-desk")
    assert done.exit_code == 0, done.stderr
    return tmp_path / "help-desk"


def tool(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # what others may have installed is not there
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_it_is_complete_and_has_its_name(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == FILES == set(project("x"))
    assert tomllib.loads((made / "pyproject.toml").read_text())["project"]["name"] == "help-desk"
    assert 'App("help-desk"' in (made / "app.py").read_text()
    assert not [file for file, text in project("x").items() if "$" in text]


def test_its_test_passes(made: Path) -> None:
    done = tool("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", cwd=made)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_its_code_is_linted(made: Path) -> None:
    config = ["--config", str(ROOT / "pyproject.toml"), "--config", "src=['.']"]
    for words in (["check"], ["format", "--check"]):
        done = tool("ruff", *words, *config, ".", cwd=made)
        assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(made: Path, tmp_path: Path) -> None:
    (made / "app.py").write_text("mine")
    again = command(app, "init", "help-desk")
    assert (again.exit_code, "directory_not_empty" in again.stderr) == (1, True)
    assert (made / "app.py").read_text() == "mine"
    for name in ("../up", "", "1st", "a b", "-x/y"):
        assert command(app, "init", "--", name).exit_code == 2
    (tmp_path / "file").write_text("")
    assert command(app, "init", "file").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "help-desk"]
