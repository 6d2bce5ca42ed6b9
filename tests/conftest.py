"""Fixtures that every test may ask for."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from tests.support.postgres import TestServer, server_in_temporary_directory


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What only root has to do (run the server as somebody else) is no test for others."""
    if os.geteuid() != 0:
        own = [item for item in items if item.get_closest_marker("root") is None]
        config.hook.pytest_deselected(items=[item for item in items if item not in own])
        items[:] = own


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
