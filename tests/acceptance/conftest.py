"""Fixtures for the runs of `takeover_app.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.demo import journal
from tests.acceptance.takeover_app import ENOUGH


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of all agents."""
    path = tmp_path / "calls.jsonl"
    path.touch()
    monkeypatch.setenv(journal.JOURNAL, str(path))
    return path


@pytest.fixture
def enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Endless runs end when this file exists."""
    path = tmp_path / "enough"
    monkeypatch.setenv(ENOUGH, str(path))
    return path
