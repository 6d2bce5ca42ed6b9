"""The second witness of a death: a process whose lock is free, and whose address refuses connections, is gone.

One witness alone is none. A session can end without its process, which is back within 50 ms; an address may be wrong,
or its API not be listening yet. Together they leave a coordinator that lost its connection just while its API does not
listen: it is ended, registers anew, and nothing but time is lost, because epochs fence and not this judgement.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

AGAIN_S = 0.02
"""A dying process closes its connections one after the other, in any order."""


async def until_surely_dead(address: str, confirm_s: float) -> None:
    """Return as soon as `address` (`host:port`) refuses a connection, at the latest after `confirm_s` seconds. Whoever
    asks then looks at the lock once more."""
    host, _, port = address.rpartition(":")
    with suppress(TimeoutError):
        async with asyncio.timeout(confirm_s):
            while not (host and port.isdecimal() and await _refuses(host.strip("[]"), int(port))):  # noqa: ASYNC110
                await asyncio.sleep(AGAIN_S)


async def _refuses(host: str, port: int) -> bool:
    """Only an active refusal counts: silence may be the network's."""
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    except (OSError, OverflowError):
        return False
    writer.close()
    return False
