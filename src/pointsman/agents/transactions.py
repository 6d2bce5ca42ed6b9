"""Exactly once, in the user's own PostgreSQL database: an effect and the record of it in one transaction.

`Context.once` records an effect after it happened, so a crash in between repeats it. Where the effect is itself a
change of a database, effect and record can be one commit, and there is no in between:

    CREATE TABLE pointsman_effects (
        key text, name text, value text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (key, name)
    );

Rows may be deleted once their run has ended; never before, for they are what stops a late attempt.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pointsman.agents.context import EFFECT_NAME_CHARS_MAX, Context
from pointsman.agents.signature import decode_as
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.values import encode

if TYPE_CHECKING:
    from asyncpg import Connection, Record

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS pointsman_effects (
    key text, name text, value text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, name)
)"""
# The row is there before the effect: a second attempt waits at its key until the first one has committed or not.
_TAKE = "INSERT INTO pointsman_effects (key, name, value) VALUES ($1, $2, 'null') ON CONFLICT DO NOTHING RETURNING true"
_RECORD = "UPDATE pointsman_effects SET value = $3 WHERE key = $1 AND name = $2"
_READ = "SELECT value FROM pointsman_effects WHERE key = $1 AND name = $2"


async def create_effects_table(connection: Connection[Record]) -> None:
    """Make the table in the first schema of the connection's search path, unless it is there."""
    await connection.execute(CREATE_TABLE)


async def once_in_transaction(
    connection: Connection[Record],
    context: Context,
    name: str,
    effect: Callable[[Connection[Record]], Any],
    *,
    expect: Any = None,
) -> Any:
    """Have an effect on a database exactly once, whatever dies when: by all attempts of this call together.

    `effect` (sync or async) is called with `connection`, inside a transaction (a savepoint, if there is one already),
    and what it does with that connection, and nothing else that it does, is exactly once. Its result (JSON) is recorded
    in the same transaction, and is what later attempts get. Attempts at the same time wait for each other; if one
    fails, nothing of it is left, and the next one is the first.

    Args:
        connection: to the user's database, with the table of `create_effects_table`.
        expect: a type to read a result as.

    Raises:
        InvalidValue, InvalidInput: a name or a result that can't be recorded, or is not as expected; the effect is
            undone.
        asyncpg.PostgresError: of the database. SerializationError if an outer transaction at REPEATABLE READ or above
            began before another attempt committed: begin it again.
        Anything that `effect` raises; the effect is undone.
    """
    if not name or len(name) > EFFECT_NAME_CHARS_MAX:
        raise InvalidValue(f"once_in_transaction({name!r}): a name of 1 to {EFFECT_NAME_CHARS_MAX} characters")
    encode([context.idempotency_key, name])
    async with connection.transaction():
        key = (context.idempotency_key, name)
        if await connection.fetchval(_TAKE, *key):
            value = effect(connection)
            data = encode(await value if inspect.isawaitable(value) else value)
            await connection.execute(_RECORD, *key, data.decode())
        else:
            data = str(await connection.fetchval(_READ, *key)).encode()
        return decode_as(expect, data)
