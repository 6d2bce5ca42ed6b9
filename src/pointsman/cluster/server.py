"""The embedded PostgreSQL of a cluster, while it runs: watched, and started again when it dies.

It is no child of this process, because it outlives a supervisor that was killed. So its death is seen by looking.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pointsman.cluster.backoff import Backoff
from pointsman.stores.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresFailed, EmbeddedPostgresMissing

LOOK_EVERY_S: Final = 0.3

logger = logging.getLogger("pointsman.cluster")


async def keep(server: EmbeddedPostgres, dsn: str, *, restart: bool) -> None:
    """For ever, or until it is dead and stays so. It recovers by itself what was committed.

    Args:
        dsn: where everybody looks for it.
    """
    backoff = Backoff()
    backoff.began()
    while True:
        if server.is_running():
            await asyncio.sleep(LOOK_EVERY_S)
            continue
        if not restart:
            logger.warning("postgresql is dead; it is not started again")
            return
        backoff.died()
        await backoff.pause("postgresql is dead")
        try:
            now_at = await asyncio.to_thread(server.start)
        except (EmbeddedPostgresFailed, EmbeddedPostgresMissing, OSError) as error:
            logger.error("postgresql can't be started: %s", error)
            continue
        backoff.began()
        logger.warning("postgresql runs again")
        if now_at != dsn:
            logger.error("postgresql has another port, because its own was taken: stop all this, and start it again")
