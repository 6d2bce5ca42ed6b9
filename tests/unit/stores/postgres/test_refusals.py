"""What PostgreSQL itself refuses: a named error with its own words, nothing appended, and nobody else concerned."""

import asyncio
import random

import pytest

from pointsman import App, CoordinatorSettings, Run, StartRun
from pointsman.kernel.errors import InvalidValue, StoreRefused, StoreUnavailable
from pointsman.stores.postgres import PostgresStore
from tests.unit.stores.postgres.helpers import SETTINGS, connected, creation, opened, step, until

TRIGGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'auditors want no % here', NEW.type; END $$;
CREATE TRIGGER refusing BEFORE INSERT ON streams FOR EACH ROW WHEN (NEW.body::text LIKE '%poison%')
    EXECUTE FUNCTION refuse();
"""
RULES = {
    "a check": (
        "ALTER TABLE streams ADD CONSTRAINT no_poison CHECK (body::text NOT LIKE '%poison%')",
        StoreRefused, "no_poison",
    ),
    "a trigger": (TRIGGER, StoreRefused, "auditors want no CallCompleted here"),
    "a column that may not be empty": (
        "ALTER TABLE runs ADD COLUMN auditor text NOT NULL DEFAULT '';"
        "ALTER TABLE runs ALTER COLUMN auditor DROP DEFAULT",
        StoreRefused, 'null value in column "auditor"',
    ),
    "a number that does not fit": (
        "ALTER TABLE streams ADD COLUMN spare smallint GENERATED ALWAYS AS (CASE WHEN body::text LIKE '%poison%' "
        "THEN 100000 ELSE 0 END) STORED",
        InvalidValue, "smallint out of range",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_of_the_database_refuses_with_its_own_words(name: str, fresh_database: str) -> None:
    sql, error, message = RULES[name]
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation("r")])
        await connection.execute(sql)
        with pytest.raises(error, match=message):
            await store.log.append([creation("new", bodies=[b'{"poison":1}']), step("r", 1)])
        assert set(await store.log.heads(["r", "new"])) == {"r"}
        assert (await store.log.heads(["r"]))["r"].sequence == 1


async def test_an_index_entry_that_is_too_large_is_refused_for_good(fresh_database: str) -> None:
    """54000: to try again helps as little as with a value that no column takes."""
    async with opened(fresh_database) as store:
        name = random.Random(1).randbytes(9_000).hex()
        with pytest.raises(InvalidValue, match="index row"):
            await store.log.append([creation(name)])


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout"])
async def test_who_waits_too_long_for_a_lock_tries_again(
    limit: str, fresh_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has locked the tables (a backup, an ALTER TABLE), and the database allows only short waits."""
    app = App("patient")

    @app.workflow()
    async def one(run: Run, text: str) -> str:
        return text

    impatient = f"{fresh_database}{'&' if '?' in fresh_database else '?'}{limit}=1000"
    async with (
        opened(impatient) as reader,
        connected(fresh_database) as operator,
        app.running(PostgresStore(impatient, SETTINGS), CoordinatorSettings(name="one")) as verbs,
    ):
        transaction = operator.transaction()
        await transaction.start()
        await operator.execute("LOCK TABLE runs, streams")
        with pytest.raises(StoreUnavailable, match=limit.replace("_", " ")):
            await reader.log.heads(["r"])
        starting = asyncio.create_task(verbs.start(StartRun("one", b'"a"', id="r")))

        async def was_refused() -> bool:
            return any("an append of 1 runs was not answered" in message for message in caplog.messages)

        await until(was_refused)
        await transaction.rollback()
        await starting
        assert (await verbs.wait("r", timeout_s=20)).head.status == "completed"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


async def test_the_run_that_the_database_refuses_is_held_back_alone(fresh_database: str) -> None:
    app = App("audited")

    @app.agent
    def echo(text: str) -> str:
        return text

    @app.workflow()
    async def twice(run: Run, text: str) -> str:
        return str(await run.call(echo, await run.call(echo, text)))

    async with connected(fresh_database) as connection:
        await connection.execute(TRIGGER.replace("LIKE '%poison%'", "LIKE '%echo#2%poison%'"))
        async with app.running(PostgresStore(fresh_database, SETTINGS), CoordinatorSettings(name="one")) as verbs:
            texts = [b'"poison"', *(b'"good %d"' % n for n in range(20))]
            for n, text in enumerate(texts):
                await verbs.start(StartRun("twice", text, id=f"r{n}"))
            for n in range(1, 21):
                assert (await verbs.wait(f"r{n}", timeout_s=20)).head.status == "completed"

            async def is_held_back() -> bool:
                return (await verbs.get("r0")).head.status == "quarantined"

            await until(is_held_back)
            failure = (await verbs.get("r0")).failure
            assert failure is not None
            assert failure.kind == "store_refused"
            assert "auditors want no CallRequested here" in failure.message
            with pytest.raises(StoreRefused, match="auditors want no RunStarted here"):
                await verbs.start(StartRun("twice", b'"echo#2 poison"', id="never"))
            assert not await connection.fetchval("SELECT count(*) FROM runs WHERE id = 'never'")
