"""The Redis store of one coordinator."""

from __future__ import annotations

import random
from typing import Final
from urllib.parse import urlsplit

from pointsman.ports.retention import BUCKET_MS
from pointsman.stores.redis.board import RedisBoard
from pointsman.stores.redis.clock import RedisClock
from pointsman.stores.redis.event_log import RedisEventLog
from pointsman.stores.redis.human_tasks import RedisHumanTasks
from pointsman.stores.redis.inspection import RedisInspection
from pointsman.stores.redis.liveness import RedisLiveness
from pointsman.stores.redis.mailbox import RedisMailbox
from pointsman.stores.redis.notices import RedisNotices
from pointsman.stores.redis.ownership import RedisOwnership
from pointsman.stores.redis.reservations import RedisReservations
from pointsman.stores.redis.retention import RedisRetention
from pointsman.stores.redis.session import Session
from pointsman.stores.redis.settings import RedisSettings, settings_of
from pointsman.stores.redis.states import RedisStates
from pointsman.stores.redis.system_log import RedisSystemLog
from pointsman.stores.redis.wakeup import RedisWakeup

PORT: Final = 6379
HASH_SEED_MAX: Final = 2**32 - 1


class RedisStore:
    """A `Store` on a Redis server, which other coordinators share.

    Args:
        settings: the settings, or the URL with them.

    Raises:
        InvalidRedisUrl.
    """

    def __init__(self, settings: RedisSettings | str) -> None:
        self._settings = settings_of(settings) if isinstance(settings, str) else settings
        self.clock = RedisClock()
        self._session = session = Session(self._settings, self.clock)
        self.log = RedisEventLog(session)
        self.mailbox = RedisMailbox(session)
        self.ownership = RedisOwnership(session)
        self.liveness = RedisLiveness(session)
        self.wakeup = RedisWakeup(session)
        self.system = RedisSystemLog(session)
        self.board = RedisBoard(session)
        self.human_tasks = RedisHumanTasks(session)
        self.notices = RedisNotices(session)
        self.reservations = RedisReservations(session)
        self.states = RedisStates(session)
        self.inspection = RedisInspection(session, self.log)
        self.retention = RedisRetention(session)

    @property
    def description(self) -> str:
        parts = urlsplit(self._settings.url)
        return f"Redis at {parts.hostname}:{parts.port or PORT}{parts.path}, prefix {self._settings.prefix}"

    async def open(self) -> None:
        """Raises StoreUnavailable, StoreNotDurable, StoreUnsupported."""
        if self._session.is_open:
            return
        await self._session.open()
        try:
            await self.liveness.start()
            await self.wakeup.start()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the store. Without `release` before it, this looks to others like the end of a process."""
        if self._session.is_open:
            await self.liveness.stop()
            await self.wakeup.stop()
            await self._session.close()

    def bucket(self) -> int:
        return self.clock.now() // BUCKET_MS

    async def hash_seed(self) -> int:
        """The seed of string hashes for all coordinators; drawn once."""
        key = f"{self._settings.prefix}:hash_seed"
        await self._session.command("SET", key, random.SystemRandom().randint(1, HASH_SEED_MAX), "NX")
        return int(await self._session.command("GET", key))
