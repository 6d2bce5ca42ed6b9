"""The command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_without_its_data_it_is_skipped_and_says_so(tmp_path: Path) -> None:
    done = benchmarks("triage", "--json", "--data", str(tmp_path / "nowhere.csv"))
    assert done.returncode == 77, done.stderr
    said = json.loads(done.stdout)
    assert said["workload"] == "triage"
    assert "nowhere.csv is not there" in said["skipped"]


def test_options_of_another_workload_are_refused() -> None:
    done = benchmarks("triage", "--concurrency", "3")
    assert done.returncode == 2
    assert "--concurrency" in done.stderr
