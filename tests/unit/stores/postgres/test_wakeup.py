"""Wake-up: messages never too long, and a listener that is silently dead is noticed."""

import asyncio
import dataclasses

import msgspec
import pytest

from pointsman.stores.postgres.wakeup import MESSAGE_BYTES_MAX, Message, _messages
from tests.unit.stores.postgres.helpers import PATIENCE_S, SETTINGS, connected, opened

LISTENERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"""


@pytest.mark.parametrize("size", [1, 22, 200, 7_000, 20_000])
def test_messages_are_short_enough_and_lose_only_what_never_fits(size: int) -> None:
    runs = [f"{number:04}" + "é" * size for number in range(300)]
    messages = _messages("12345678", runs)
    assert all(len(message.encode()) <= MESSAGE_BYTES_MAX for message in messages)
    carried = [run for message in messages for run in msgspec.json.decode(message, type=Message).runs]
    assert carried == (runs if size * 2 < 7_000 else [])


@pytest.mark.postgres
async def test_a_dead_listener_hears_again(fresh_database: str) -> None:
    settings = dataclasses.replace(SETTINGS, listener_check_s=0.2)
    async with opened(fresh_database, settings) as ear, opened(fresh_database) as mouth:
        async with connected(fresh_database) as killer:
            await killer.fetch(LISTENERS)

        async def hint() -> None:
            while True:
                mouth.wakeup.hint(["run"])
                await asyncio.sleep(0.05)

        hinting = asyncio.create_task(hint())
        try:
            async with asyncio.timeout(PATIENCE_S):
                assert await ear.wakeup.next_hints() == ["run"]
        finally:
            hinting.cancel()


@pytest.mark.postgres
async def test_one_does_not_hear_oneself(fresh_database: str) -> None:
    async with opened(fresh_database) as a, opened(fresh_database) as b:
        a.wakeup.hint(["of a"])
        b.wakeup.hint(["of b"])
        assert await asyncio.wait_for(a.wakeup.next_hints(), PATIENCE_S) == ["of b"]
        assert await asyncio.wait_for(b.wakeup.next_hints(), PATIENCE_S) == ["of a"]
