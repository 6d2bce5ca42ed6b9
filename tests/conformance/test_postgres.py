"""The PostgreSQL store against the suite: each case in a database of its own."""

from collections.abc import AsyncIterator

import pytest

from pointsman.stores.postgres import migrate
from pointsman.testing.conformance import CASES, Case, case_name, run_case
from tests.conformance.harnesses import PostgresHarness

pytestmark = pytest.mark.postgres
