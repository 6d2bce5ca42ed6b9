"""What is a change of a program, and what is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pointsman.cluster import FileWatch
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


def test_a_directory_has_one_supervisor(tmp_path: Path) -> None:
    with take_directory(tmp_path / "new", "x.lock"), pytest.raises(DirectoryInUse):
        take_directory(tmp_path / "new", "x.lock")
    take_directory(tmp_path / "new", "x.lock").close()
    write(tmp_path / "file")
    with pytest.raises(ClusterFailed, match="give another directory"):
        take_directory(tmp_path / "file" / "below", "x.lock")
