"""The SQLite store against the suite, each case in a new file."""

from pathlib import Path

import pytest

from pointsman.testing.conformance import CASES, Case, case_name, run_case
from tests.conformance.harnesses import SqliteHarness


@pytest.mark.parametrize("case", CASES, ids=case_name)
async def test_conformance(case: Case, tmp_path: Path) -> None:
    await run_case(case, SqliteHarness(tmp_path / "pointsman.db"))
