"""The memory store against the suite."""

import pytest

from pointsman.testing.conformance import CASES, Case, case_name, run_case
from tests.conformance.harnesses import MemoryHarness


@pytest.mark.parametrize("case", CASES, ids=case_name)
async def test_conformance(case: Case) -> None:
    await run_case(case, MemoryHarness())
