"""What `pointsman dev` shows and refuses; the whole of it is in tests/acceptance/test_dev.py."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from pointsman.cli.dev.following import Follower, Look
from pointsman.cli.dev.view import View
from pointsman.cli.main import app
from tests.unit.cli.conftest import Served, command


def console(*, is_terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=160, height=20, color_system=None)


def said(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


def test_prints_of_the_program_and_warnings_are_shown_once() -> None:
    shown = console()
    view = View(shown)
    for _ in range(2):
        view.log("working on 1")
        view.log("2026-11-21 17:39:31,123 INFO pointsman.coordinator: dev is incarnation 1")
        view.log("2026-11-21 17:39:31,124 WARNING pointsman.coordinator: stranded: no live coordinator has order v1")
        view.log('{"app":"desk","name":"dev"}')
    assert [line.split(" ", 1)[1] for line in said(shown).splitlines()] == [
        "working on 1",
        "2026-11-21 17:39:31,124 WARNING pointsman.coordinator: stranded: no live coordinator has order v1",
        "working on 1",
    ]
    view.say("info", "reloaded")
    view.log("2026-11-21 17:39:36,124 WARNING pointsman.coordinator: stranded: no live coordinator has order v1")
    assert said(shown).count("stranded") == 2


async def test_what_happens_is_a_line_and_on_a_terminal_a_table_too(served: Served) -> None:
    follower = Follower(served.url)
    assert await follower.look() is not None
    served.invoke("start", "breaks", '"dev"', "--id", "dev-1", "--wait")
    look = await follower.look()
    assert look is not None
    again = await follower.look()
    assert again is not None
    assert not [event for run, event in again.events if run == "dev-1"]
    await follower.close()

    plain, terminal = console(), console(is_terminal=True)
    for out in (plain, terminal):
        view = View(out)
        view.start()
        view.show(look)
        view.stop()
        lines = [line for line in said(out).splitlines() if " dev-1 " in line]
        kinds = [line.split()[2] for line in lines]
        assert kinds == ["RunStarted", "CallFailed", "RunFailed"]
    assert "breaks v1" not in said(plain)
    assert "breaks v1" in said(terminal)


async def test_what_ended_before_is_no_news(served: Served) -> None:
    served.invoke("start", "greet", '"dev"', "--id", "dev-2", "--wait")
    served.invoke("start", "waits", "--id", "dev-3")
    follower = Follower(served.url)
    look = await follower.look()
    await follower.close()
    assert look is not None
    assert "dev-2" not in {run for run, _ in look.events}
    assert {"dev-2", "dev-3"} <= look.last.keys()


async def test_where_nobody_answers_there_is_nothing_to_show() -> None:
    follower = Follower("http://127.0.0.1:1")
    assert await follower.look() is None
    await follower.close()
    shown = console(is_terminal=True)
    view = View(shown)
    view.start()
    view.show(Look())
    view.stop()
    assert "no runs yet" in said(shown)


def test_what_can_never_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("")
    for words, what in (
        (["app"], "give it as module:attribute"),
        (["none.py:app"], "no such file"),
        (["app.py:app", "--watch", "none"], "no such file or folder"),
        (["app.py:app", "--set", "drainn_s=1"], "unknown_setting"),
        (["app.py:app", "--set", "drain_s=-1"], "drain_s"),
    ):
        done = command(app, "dev", *words)
        assert (done.exit_code, what in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / ".pointsman").exists()
