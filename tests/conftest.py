"""Fixtures that every test may ask for."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.support.postgres import TestServer, server_in_temporary_directory


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[TestServer]:
    """One embedded server for the session, started when the first test asks for it."""
    with server_in_temporary_directory() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template() -> str | None:
    """The database that `fresh_database` copies; None: an empty one. Override it with a migrated one."""
    return None


@pytest.fixture
async def fresh_database(postgres_server: TestServer, postgres_template: str | None) -> AsyncIterator[str]:
    """The DSN of a new database, dropped after the test."""
    async with replace(postgres_server, template=postgres_template).new_database() as dsn:
        yield dsn
