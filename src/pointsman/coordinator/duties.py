"""Duties: the loops of a coordinator. Each runs in a task of its own for as long as the coordinator lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pointsman.kernel.errors import StoreUnavailable

logger = logging.getLogger("pointsman.coordinator")


async def keep(duty: Callable[[], Awaitable[None]], pause_s: float) -> None:
    """Run a duty for ever. When it fails, log that and begin again after `pause_s` seconds."""
    while True:
        try:
            await duty()
        except StoreUnavailable as error:
            logger.warning("%s: %s", duty.__name__.lstrip("_"), error)
            await asyncio.sleep(pause_s)
        except Exception:
            logger.exception("%s failed; it goes on", duty.__name__.lstrip("_"))
            await asyncio.sleep(pause_s)
