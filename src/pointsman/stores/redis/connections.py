"""Connections to Redis: opening them, their errors, and how each is known to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from pointsman.kernel.errors import InvalidValue, StoreUnavailable
from pointsman.stores.redis.settings import RedisSettings

T = TypeVar("T")


def pooled(settings: RedisSettings, connections_max: int) -> Redis:
    pool = BlockingConnectionPool.from_url(
        settings.url, max_connections=connections_max, timeout=settings.timeout_s, **_options(settings)
    )
    return Redis(connection_pool=pool)


class Single:
    """One connection, reopened after it broke. Hold the lock while using it.

    Attributes:
        identity: the identity of the connection, if it matters and is known.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.client = pooled(settings, 1)
        self.lock = asyncio.Lock()
        self.identity = ""


def _options(settings: RedisSettings) -> dict[str, Any]:
    """Options of the client. It must not send anything twice, because only we know what may be sent again; and nothing
    of the newer protocol is needed.
    """
    timeout = settings.timeout_s
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }


async def close(client: Redis) -> None:
    await client.aclose()
    await client.connection_pool.disconnect()


async def seen_with(client: Redis, others: list[str]) -> tuple[str, set[str]]:
    """The identity of this connection, and which of `others` are gone: connections of the same run of the server, which
    no longer knows them.

    An identity is the run of the server and the connection's number in it; a later run uses the numbers again.
    """
    numbers = [other.partition(":")[2] for other in others]
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("INFO", "server")
    pipeline.execute_command("CLIENT ID")
    if numbers:
        pipeline.execute_command("CLIENT LIST", "ID", *numbers)
    info, own, *listed = await pipeline.execute()
    run = text(info["run_id"])
    standing = {f"{run}:{number}" for number in _numbers(listed[0] if listed else [])}
    gone = {other for other in others if other.startswith(f"{run}:") and other not in standing}
    return f"{run}:{int(own)}", gone


def _numbers(listed: Any) -> list[str]:
    rows = listed if isinstance(listed, list) else text(listed).splitlines()
    return [str(row["id"]) if isinstance(row, dict) else row.split()[0].removeprefix("id=") for row in rows if row]


async def guarded(answer: Awaitable[T]) -> T:
    """Await an answer of the client. Raises StoreUnavailable: nothing is known about it. InvalidValue: invalid text.

    The client loses some cancellations: it takes them for its own timeouts, and `asyncio.wait_for` of Python 3.11 drops
    one that comes just as it is done. A task that was cancelled meanwhile must still be told, or it never ends.
    """
    task = asyncio.current_task()
    cancels = task.cancelling() if task is not None else 0
    try:
        found = await answer
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a lone surrogate is not text: {error}") from error
    except (TimeoutError, RedisError, OSError) as error:
        if task is not None and task.cancelling() > cancels:
            raise asyncio.CancelledError from error
        raise StoreUnavailable(f"Redis: {type(error).__name__}: {error}") from error
    if task is not None and task.cancelling() > cancels:
        raise asyncio.CancelledError
    return found


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
