"""Finding the app that a command line names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman import App
from pointsman.cli.exits import Exit, exit_code
from pointsman.cli.load import AppNotFound, check_app, load_app

SOURCE = "from pointsman import App\napp = App('here')\nnumber = 1\nclass Box:\n    inner = app\n"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "shop_app.py").write_text(SOURCE)
    (tmp_path / "broken_app.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("shop_app", "broken_app"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("spec", ["shop_app:app", "shop_app.py:app", "shop_app:Box.inner"])
def test_modules_and_files(directory: Path, spec: str) -> None:
    app = load_app(spec)
    assert isinstance(app, App)
    assert app.name == "here"


def test_a_file_of_another_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (directory / "elsewhere").mkdir()
    monkeypatch.chdir(directory / "elsewhere")
    assert load_app(f"{directory}/shop_app.py:app").name == "here"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("shop_app", "module:attribute"),
        (":app", "module:attribute"),
        ("nowhere:app", "no module 'nowhere'"),
        ("nowhere.py:app", "no such file"),
        ("shop_app:nothing", "its apps: app"),
        ("shop_app:number", "is a int, not a pointsman.App"),
        ("broken_app:app", "ZeroDivisionError"),
    ],
)
def test_what_is_no_app_is_named(directory: Path, spec: str, says: str) -> None:
    with pytest.raises(AppNotFound, match=says.replace(".", r"\.")) as caught:
        load_app(spec)
    assert exit_code(caught.value) == Exit.USAGE


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(0)", "ends Python"),
        ("import os; os._exit(7)", "exit code 7"),
        ("app = 1", "is a int, not a pointsman.App"),
    ],
)
def test_a_check_happens_in_a_process_of_its_own(directory: Path, source: str, says: str) -> None:
    (directory / "checked_app.py").write_text(source)
    with pytest.raises(AppNotFound, match=says):
        check_app("checked_app:app")
    check_app("shop_app:app")
    assert not {"checked_app", "shop_app"} & set(sys.modules)
