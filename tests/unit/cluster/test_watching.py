"""What is a change of a program, and what is none."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pointsman.cluster import FileWatch, reloading
from pointsman.cluster.child import Child
from pointsman.cluster.errors import ClusterFailed, DirectoryInUse
from pointsman.cluster.locking import take_directory


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_written_made_and_deleted_is_a_change_once(tmp_path: Path) -> None:
    app, agents = write(tmp_path / "app.py"), write(tmp_path / "agents" / "billing.py")
    watch = FileWatch([tmp_path])
    assert watch.changed() == []
    app.write_text("longer")
    new = write(tmp_path / "agents" / "new.py")
    assert watch.changed() == [new, app]
    assert watch.changed() == []
    agents.unlink()
    assert watch.changed() == [agents]
    os.utime(app, ns=(1, 1))  # the same length, saved again
    assert watch.changed() == [app]


def test_other_peoples_code_and_data_are_none(tmp_path: Path) -> None:
    watch = FileWatch([tmp_path])
    write(tmp_path / "env" / "pyvenv.cfg")
    for other in (
        "env/lib/thing.py", ".pointsman/dev.py", "__pycache__/app.py", "node_modules/a.py", "data.json", ".hidden.py",
    ):  # fmt: skip
        write(tmp_path / other)
    assert watch.changed() == []


def test_more_files_may_be_watched_whatever_they_are(tmp_path: Path) -> None:
    prompt, config = write(tmp_path / "prompts" / "triage.md"), write(tmp_path / "config.toml")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    watch = FileWatch([], [tmp_path / "prompts", config, tmp_path / "gone.md"])
    prompt.write_text("longer")
    config.write_text("longer")
    assert watch.changed() == [config, prompt]


def test_a_folder_that_can_not_be_looked_into_is_passed_by(tmp_path: Path) -> None:
    """As the data of another user's server. Root may look into all, so here it is a path that is too long."""
    deep = tmp_path
    while len(str(deep)) < 3_900:
        deep /= "d" * 100
    deep /= "d" * (4_095 - len(str(deep)) - 6)
    deep.mkdir(parents=True)
    (deep / "data").mkdir()  # its pyvenv.cfg would have more than the 4,095 characters that a path may have
    app = write(tmp_path / "app.py")
    watch = FileWatch([tmp_path], [deep / "data" / "also_too_long"])
    app.write_text("longer")
    assert watch.changed() == [app]


async def test_a_look_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.001)
    monkeypatch.setattr(reloading, "SETTLE_S", 0.001)
    app, heard, said = write(tmp_path / "app.py"), asyncio.Event(), []

    class Interrupted(FileWatch):
        looks = 0

        def changed(self) -> list[Path]:
            self.looks += 1
            if self.looks == 1:
                raise OSError(24, "Too many open files")
            if self.looks == 2:
                app.write_text("longer")
            return super().changed()

    def say(kind: str, sentence: str) -> None:
        said.append((kind, sentence))
        if "does not compile" in sentence:
            heard.set()

    coordinator = reloading.ReloadingCoordinator(
        "app.py:app", directory=tmp_path, store="", port=0, watch=Interrupted([tmp_path]),
        check=lambda: "it does not compile", say=say, settings={},
    )  # fmt: skip
    coordinator.child = Child("coordinator", "coordinator", "x:1", tmp_path / "log", [], {})
    task = asyncio.create_task(coordinator._reload_for_ever())
    async with asyncio.timeout(30):
        await heard.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "Too many open files" in said[0][1]
    assert said[1] == ("info", "changed: app.py")


def test_a_directory_has_one_supervisor(tmp_path: Path) -> None:
    with take_directory(tmp_path / "new", "x.lock"), pytest.raises(DirectoryInUse):
        take_directory(tmp_path / "new", "x.lock")
    take_directory(tmp_path / "new", "x.lock").close()
    write(tmp_path / "file")
    with pytest.raises(ClusterFailed, match="give another directory"):
        take_directory(tmp_path / "file" / "below", "x.lock")
