"""Fixtures that every test may ask for, and where tests have their files."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.postgres import TestServer, server_in_temporary_directory

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4_000_000_000


def pytest_configure(config: pytest.Config) -> None:
    """Temporary files are in memory, where there is room for them: a database is made and dropped for each of some
    hundred tests, and a disk that others use too takes a second for one."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


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
