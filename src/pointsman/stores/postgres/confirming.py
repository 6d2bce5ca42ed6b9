"""The second witness of a death: a process whose lock is free, and whose address refuses connections, is gone.

Neither witness is enough alone. A session can end without its process, which reconnects within 50 ms, or somewhat later
on a busy machine; so a process that still answers gets more time. An address may be wrong, or its API not listening
yet. Both together are wrong only about a coordinator that loses its connection while its API does not listen. It is
ended and registers again, which costs only time: runs are protected by the fencing with epochs, not by this judgement.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pointsman.stores.postgres.settings import PostgresSettings

AGAIN_S = 0.02
"""Seconds until the next look: a dying process closes its connections one after the other, in any order."""


async def until_surely_dead(address: str, settings: PostgresSettings) -> None:
    """Return as soon as `address` (`host:port`) refuses a connection, or else after `death_confirm_ms`, or after
    `answer_confirm_ms` if it answers. The caller then checks the lock once more.
    """
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    end = loop.time() + settings.death_confirm_ms / 1000
    end_if_answering = loop.time() + settings.answer_confirm_ms / 1000
    while (left := end - loop.time()) > 0:
        if host and port.isdecimal():
            answers = await _answers(host.strip("[]"), int(port), left)
            if answers is False:
                return
            if answers:
                end = max(end, end_if_answering)
        await asyncio.sleep(min(AGAIN_S, max(end - loop.time(), 0)))


async def refuses(address: str, timeout_s: float) -> bool:
    """Whether `address` refuses a connection; tried once."""
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdecimal() and await _answers(host.strip("[]"), int(port), timeout_s) is False


async def _answers(host: str, port: int, timeout_s: float) -> bool | None:
    """Whether the address answers; False: it refuses. None: no answer, which may be due to the network."""
    writer = None
    with suppress(TimeoutError, OverflowError, OSError):
        async with asyncio.timeout(timeout_s):
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return False
    if writer is None:
        return None
    writer.close()
    return True
