"""A migrated database for each test, and the pieces that tests of the PostgreSQL store share."""

import asyncio

import pytest

from pointsman.stores.postgres import migrate
from tests.support.postgres import TestServer


@pytest.fixture(scope="session")
def postgres_template(postgres_server: TestServer) -> str:
    """Migrated once, and copied for each test."""
    postgres_server.execute_blocking("CREATE DATABASE store_tests")
    asyncio.run(migrate(postgres_server.dsn_of("store_tests")))
    return "store_tests"
