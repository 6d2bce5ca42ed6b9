"""The PostgreSQL store against the suite, each case in a new database."""

import asyncio

import pytest

from pointsman.stores.postgres import migrate
from pointsman.testing.conformance import CASES, Case, case_name, run_case
from tests.conformance.harnesses import PostgresHarness
from tests.support.postgres import TestServer

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="session")
def postgres_template(postgres_server: TestServer) -> str:
    """Migrated once, and copied for each case."""
    postgres_server.execute_blocking("CREATE DATABASE conformance")
    asyncio.run(migrate(postgres_server.dsn_of("conformance")))
    return "conformance"


@pytest.mark.parametrize("case", CASES, ids=case_name)
async def test_conformance(case: Case, fresh_database: str) -> None:
    await run_case(case, PostgresHarness(fresh_database))
