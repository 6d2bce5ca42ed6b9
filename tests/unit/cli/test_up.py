"""What `pointsman up` says, and what it refuses before anything is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pointsman.cli.main import app
from pointsman.cli.up import introduce, without_password
from pointsman.cluster import LocalCluster
from pointsman.cluster.child import Child
from tests.unit.cli.conftest import command

DSN = "postgresql://somebody@127.0.0.1:5432/pointsman"


@pytest.fixture
def cluster(tmp_path: Path) -> LocalCluster:
    made = LocalCluster("x:app", 1, directory=tmp_path, store=DSN)
    made.children["router"] = Child("router", "router", "127.0.0.1:7777", tmp_path / "router.log", [], {})
    return made


def test_the_stores_dsn_is_said(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    introduce(cluster, as_json=False)
    assert f"store: {DSN}" in capsys.readouterr().out.splitlines()
    introduce(cluster, as_json=True)
    assert json.loads(capsys.readouterr().out)["dsn"] == DSN


def test_a_typo_leaves_nothing_behind(tmp_path: Path) -> None:
    data = tmp_path / "data"
    result = command(app, "up", "nosuch:app", "--port", "0", "--data", str(data))
    assert result.exit_code == 2
    assert result.stderr.startswith("pointsman: app_not_found: nosuch:app: no module 'nosuch'")
    assert not data.exists()


def test_a_given_password_is_not_shown() -> None:
    assert without_password("postgresql://u:s3cret@h:5432/db") == "postgresql://u:***@h:5432/db"
    assert without_password("postgresql://u@h/db") == "postgresql://u@h/db"
