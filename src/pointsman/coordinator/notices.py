"""The duty that delivers notices: what appends to human tasks left for a webhook is sent at least once, by any
coordinator.

A notice is taken for longer than a delivery lasts, so only one of several coordinators sends it; if that one dies, the
notice is due again by itself. The first retry comes after 5 s, and each later wait is four times as long, up to an
hour. Only deliveries that the webhook did not accept count as tries: a coordinator that took a notice and never sent it
does not delay it.
"""

from __future__ import annotations

import asyncio
import logging
import random

from pointsman.coordinator.duties import keep
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.notices import Notice
from pointsman.ports.store import Store
from pointsman.ports.telling import NotTold, Teller

logger = logging.getLogger("pointsman.notices")

AT_ONCE = 16
"""Notices that one coordinator tells at the same time."""
FIRST_DELAY_MS = 5_000
DELAY_MS_MAX = 3_600_000
FACTOR = 4
JITTER = 0.1
HOUR_MS = 3_600_000


class NoticeDuty:
    """A service: `start`, `stop`; `hint` when notices were written. Does nothing without a teller."""

    def __init__(self, settings: CoordinatorSettings, store: Store, stats: Stats, teller: Teller | None) -> None:
        self._settings = settings
        self._store = store
        self._stats = stats
        self._teller = teller
        self._task: asyncio.Task[None] | None = None
        self._hinted = asyncio.Event()

    def start(self) -> None:
        if self._teller is not None:
            self._task = asyncio.create_task(
                keep(self._tell_all, self._settings.webhook_poll_ms / 1000), name="notices"
            )

    async def stop(self) -> None:
        """Stop. A notice that is being sent is sent again by another coordinator."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._teller is not None:
            await self._teller.close()

    def hint(self) -> None:
        """Look for notices at once."""
        self._hinted.set()

    async def _tell_all(self) -> None:
        while True:
            self._hinted.clear()
            while taken := await self._store.notices.take(limit=AT_ONCE, hold_ms=self._settings.webhook_hold_ms):
                told = await asyncio.gather(*(self._tell(notice) for notice in taken), return_exceptions=True)
                for error in filter(None, told):
                    raise error
            try:
                async with asyncio.timeout(self._settings.webhook_poll_ms / 1000):
                    await self._hinted.wait()
            except TimeoutError:
                continue

    async def _tell(self, notice: Notice) -> None:
        assert self._teller is not None
        try:
            await self._teller.tell(notice.id, notice.body)
        except NotTold as error:
            await self._failed(notice, error)
            return
        await self._store.notices.settle([notice.id])
        self._stats.notices_delivered += 1

    async def _failed(self, notice: Notice, error: NotTold) -> None:
        self._stats.notices_failed += 1
        tries = notice.tries + 1
        age_ms = self._store.clock.now() - notice.at
        if error.is_final or age_ms > self._settings.webhook_give_up_h * HOUR_MS:
            await self._store.notices.settle([notice.id])
            self._stats.notices_given_up += 1
            logger.error("notice %s is given up after %d tries: %s", notice.id, tries, error)
            return
        delay = min(FIRST_DELAY_MS * FACTOR ** min(tries - 1, 10), DELAY_MS_MAX)
        delay = round(delay * (1 + JITTER * (2 * random.random() - 1)))
        logger.warning("notice %s: %s; try %d follows in %d s", notice.id, error, tries + 1, delay // 1000)
        await self._store.notices.postpone(notice.id, tries=tries, delay_ms=delay)
