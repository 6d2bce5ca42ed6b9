"""Migrations: applied once, equal to schema.sql, and named errors where they are missing or too new."""

import asyncio
from dataclasses import replace
from importlib import resources

import asyncpg
import pytest

from pointsman.kernel.errors import SchemaDiffers, SchemaFromFuture, SchemaMissing, StoreUnavailable
from pointsman.stores.postgres import PostgresStore, migrate
from pointsman.stores.postgres.migrate import known_migrations
from tests.support.postgres import TestServer
from tests.unit.stores.postgres.helpers import connected, opened

pytestmark = pytest.mark.postgres

CATALOG = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ '^streams_' ORDER BY 1, 2""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename !~ '^streams_' ORDER BY 1",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '^streams_' ORDER BY 1, 2""",
    "relations": """
        SELECT relname, relkind::text, reloptions::text, pg_get_partkeydef(oid) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relname !~ '^streams_[0-9m]' ORDER BY 1""",
    "storage": """
        SELECT attrelid::regclass::text, attname, attstorage::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND relname !~ '^streams_[0-9m]' ORDER BY 1, 2""",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1",
}


async def catalog(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    async with connected(dsn) as connection:
        return {name: [tuple(row) for row in await connection.fetch(query)] for name, query in CATALOG.items()}


async def test_the_schema_equals_the_sum_of_its_migrations(postgres_server: TestServer) -> None:
    schema = resources.files("pointsman.stores.postgres").joinpath("schema.sql").read_text("utf-8")
    async with postgres_server.new_database() as migrated, postgres_server.new_database() as written:
        await migrate(migrated)
        async with connected(written) as connection:
            await connection.execute(schema)
        by_migrations, by_schema = await catalog(migrated), await catalog(written)
    for name in CATALOG:
        assert by_migrations[name] == by_schema[name], name
    assert len(by_migrations["columns"]) > 50


async def test_migrating_twice_is_once(postgres_server: TestServer) -> None:
    async with postgres_server.new_database() as dsn:
        assert await migrate(dsn) == [migration.title for migration in known_migrations()]
        assert await migrate(dsn) == []


async def test_several_may_migrate_at_once(postgres_server: TestServer) -> None:
    async with postgres_server.new_database() as dsn:
        applied = await asyncio.gather(*(migrate(dsn) for _ in range(5)))
        assert sorted(map(len, applied)) == [0, 0, 0, 0, len(known_migrations())]


async def test_an_empty_database_says_what_to_do(postgres_server: TestServer) -> None:
    async with postgres_server.new_database() as dsn:
        store = PostgresStore(dsn)
        with pytest.raises(SchemaMissing, match="pointsman migrate"):
            await store.open()
        await store.close()


async def test_a_half_migrated_database_says_what_to_do(fresh_database: str) -> None:
    async with connected(fresh_database) as connection:
        await connection.execute("DELETE FROM migrations")
    store = PostgresStore(fresh_database)
    with pytest.raises(SchemaMissing, match=r"0001_initial.*pointsman migrate"):
        await store.open()
    await store.close()


async def test_a_database_from_the_future_is_refused(fresh_database: str) -> None:
    async with connected(fresh_database) as connection:
        await connection.execute(
            "INSERT INTO migrations (number, phase, name, digest) VALUES (9999, 'pre', 'from_the_future', '')"
        )
    store = PostgresStore(fresh_database)
    with pytest.raises(SchemaFromFuture, match="deploy a newer release"):
        await store.open()
    await store.close()
    with pytest.raises(SchemaFromFuture):
        await migrate(fresh_database)


@pytest.mark.parametrize(
    "change", ["UPDATE migrations SET digest = 'of another build'", "ALTER TABLE migrations DROP COLUMN digest"]
)
async def test_a_database_of_another_build_is_refused(fresh_database: str, change: str) -> None:
    """Its statements would be refused one by one, some of them where nobody looks: takeovers, say."""
    async with connected(fresh_database) as connection:
        await connection.execute(change)
    store = PostgresStore(fresh_database)
    with pytest.raises(SchemaDiffers, match="begin with a new database"):
        await store.open()
    await store.close()
    with pytest.raises(SchemaDiffers):
        await migrate(fresh_database)


def test_a_comment_makes_no_other_migration() -> None:
    first, *_ = known_migrations()
    assert replace(first, sql=f"-- said better\n{first.sql}\n").digest == first.digest
    assert replace(first, sql=first.sql.replace("NOT NULL", "", 1)).digest != first.digest


async def test_a_table_that_is_missing_later_is_a_named_error(fresh_database: str) -> None:
    async with opened(fresh_database) as store:
        async with connected(fresh_database) as connection:
            await connection.execute("ALTER TABLE mailbox RENAME TO elsewhere")
        with pytest.raises(SchemaMissing, match="pointsman migrate"):
            await store.mailbox.read("run", after=0)


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://nobody:secret@127.0.0.1:1/none", "postgresql://127.0.0.1:1/?nonsense=1", "not a dsn"],
)
async def test_an_unreachable_database_is_a_named_error_without_the_password(dsn: str) -> None:
    store = PostgresStore(dsn)
    with pytest.raises(StoreUnavailable) as caught:
        await store.open()
    await store.close()
    assert "secret" not in str(caught.value) + store.description
    with pytest.raises(StoreUnavailable):
        await migrate(dsn)


async def test_a_missing_database_is_said_at_once(postgres_server: TestServer) -> None:
    store = PostgresStore(postgres_server.dsn_of("no_such_database"))
    async with asyncio.timeout(1.5):
        with pytest.raises(StoreUnavailable, match="no_such_database"):
            await store.open()
    await store.close()


async def test_two_schemas_of_one_database_do_not_meet(postgres_server: TestServer) -> None:
    async with postgres_server.new_database() as dsn:
        async with connected(dsn) as connection:
            await connection.execute("CREATE SCHEMA one; CREATE SCHEMA two")
        dsns = [f"{dsn}?options=-csearch_path%3D{schema}" for schema in ("one", "two")]
        for one in dsns:
            await migrate(one)
        async with opened(dsns[0]) as first, opened(dsns[1]) as second:
            leases = [await store.liveness.register("same", "", [], ttl_ms=3_000) for store in (first, second)]
            assert [lease.incarnation for lease in leases] == [1, 1]
            assert all(lease.is_trusted() for lease in leases)


async def test_a_migration_that_fails_leaves_nothing(
    postgres_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pointsman.stores.postgres import migrate as module_function
    from pointsman.stores.postgres.migrate import Migration

    module = __import__("importlib").import_module("pointsman.stores.postgres.migrate")
    broken = [*known_migrations(), Migration(2, "pre", "broken", "CREATE TABLE half (x int); SELECT 1/0")]
    monkeypatch.setattr(module, "known_migrations", lambda: broken)
    async with postgres_server.new_database() as dsn:
        with pytest.raises(StoreUnavailable, match="division by zero"):
            await module_function(dsn)
        async with connected(dsn) as connection:
            assert await connection.fetchval("SELECT to_regclass('half')") is None
            with pytest.raises(asyncpg.UndefinedTableError):
                await connection.fetch("SELECT * FROM half")
