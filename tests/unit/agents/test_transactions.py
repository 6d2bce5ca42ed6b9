"""Effects in the user's own database: on a real one, with attempts at the same time, failures and lost replies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pointsman.agents.context import Context
from pointsman.agents.transactions import create_effects_table, once_in_transaction
from pointsman.kernel.errors import InvalidInput, InvalidValue

Connection = Any


def attempt(number: int = 1, key: str = "r1/1/billing#1") -> Context:
    return Context("r1", "billing#1", number, key, 1, time.monotonic() + 30)


@pytest.fixture
async def database(fresh_database: str) -> str:
    connection = await asyncpg.connect(fresh_database)
    await create_effects_table(connection)
    await create_effects_table(connection)
    await connection.execute("CREATE TABLE charges (id serial PRIMARY KEY, usd int)")
    await connection.close()
    return fresh_database


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def charge(connection: Connection) -> dict[str, int]:
    return {"charge": await connection.fetchval("INSERT INTO charges (usd) VALUES (5) RETURNING id")}


async def charges(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM charges"))


async def test_a_later_attempt_gets_the_result_and_has_no_effect(connection: Connection) -> None:
    first = await once_in_transaction(connection, attempt(1), "charge", charge)
    again = await once_in_transaction(connection, attempt(2), "charge", charge, expect=dict[str, int])
    assert first == again == {"charge": 1}
    assert await charges(connection) == 1
    await once_in_transaction(connection, attempt(1), "another", charge)
    await once_in_transaction(connection, attempt(1, "r1/2/billing#1"), "charge", charge)
    assert await charges(connection) == 3


async def test_sync_effects_and_results_of_any_json(connection: Connection) -> None:
    for value in (None, 1.5, "ü", [{"a": None}]):
        for _ in range(2):
            name = f"n{value}"
            assert await once_in_transaction(connection, attempt(), name, lambda _, value=value: value) == value


async def test_an_effect_that_fails_leaves_nothing(connection: Connection) -> None:
    async def fails(connection: Connection) -> None:
        await charge(connection)
        raise ZeroDivisionError

    async def gives_nan(connection: Connection) -> float:
        await charge(connection)
        return float("nan")

    for effect, error in ((fails, ZeroDivisionError), (gives_nan, InvalidValue)):
        with pytest.raises(error):
            await once_in_transaction(connection, attempt(), "charge", effect)
    assert await charges(connection) == 0
    assert await once_in_transaction(connection, attempt(), "charge", charge)
    assert await charges(connection) == 1


async def test_attempts_at_the_same_time_wait_for_each_other(database: str, connection: Connection) -> None:
    """Two coordinators, one stopped and thought dead: the second attempt comes while the first is at it."""
    other = await asyncpg.connect(database)
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: Connection) -> dict[str, int]:
        entered.set()
        await go_on.wait()
        return await charge(connection)

    first = asyncio.create_task(once_in_transaction(connection, attempt(1), "charge", slow))
    await entered.wait()
    second = asyncio.create_task(once_in_transaction(other, attempt(2), "charge", charge))
    watcher = await asyncpg.connect(database)
    async with asyncio.timeout(10):
        while not await watcher.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    assert await first == await second
    assert await charges(connection) == 1
    await other.close()
    await watcher.close()


async def test_the_next_attempt_is_the_first_when_the_one_before_it_dies(database: str, connection: Connection) -> None:
    other = await asyncpg.connect(database)
    entered = asyncio.Event()

    async def dies(connection: Connection) -> None:
        await charge(connection)
        entered.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(once_in_transaction(other, attempt(1), "charge", dies))
    await entered.wait()
    second = asyncio.create_task(once_in_transaction(connection, attempt(2), "charge", charge))
    other.terminate()  # as a process that is killed
    first.cancel()
    await asyncio.wait([first])
    assert await second == {"charge": 2}  # a sequence does not go back; what the first one charged is gone
    assert await charges(connection) == 1


async def test_it_is_part_of_a_transaction_that_is_open_already(connection: Connection) -> None:
    outer = connection.transaction()
    await outer.start()
    await once_in_transaction(connection, attempt(), "charge", charge)
    await outer.rollback()
    assert await charges(connection) == 0
    await once_in_transaction(connection, attempt(), "charge", charge)
    assert await charges(connection) == 1


@pytest.mark.parametrize("name", ["", "n" * 129, "a\0"])
async def test_names_that_can_not_be_recorded(connection: Connection, name: str) -> None:
    with pytest.raises(InvalidValue):
        await once_in_transaction(connection, attempt(), name, charge)
    assert await charges(connection) == 0


async def test_an_effect_with_a_result_of_another_type_is_undone(connection: Connection) -> None:
    with pytest.raises(InvalidInput):
        await once_in_transaction(connection, attempt(), "charge", charge, expect=int)
    assert await charges(connection) == 0
