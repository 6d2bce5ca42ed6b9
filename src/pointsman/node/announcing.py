"""Announcements to the routers: that this coordinator lives, how much it has to do, and that it leaves.

Must not know what routers do with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

import httpx

from pointsman.coordinator.service import Coordinator

ANNOUNCE_EVERY_S = 0.5
ANNOUNCE_TIMEOUT_S = 1.0
LEAVE_TIMEOUT_S = 0.5
UNHEARD_TIMES = 4
"""Failures in a row that are worth a word: a router may start or restart meanwhile."""

logger = logging.getLogger("pointsman.node")


class Announcer:
    """Says to each router every half second that this coordinator lives, and once that it leaves."""

    def __init__(self, coordinator: Coordinator, address: str, routers: Sequence[str], token: str | None) -> None:
        self._coordinator = coordinator
        self._address = address
        self._routers = [router.rstrip("/") for router in routers]
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=ANNOUNCE_TIMEOUT_S, trust_env=False)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns when every router has heard it, or had its time to."""
        await asyncio.gather(*(self._announce(router, leaving=False) for router in self._routers))
        self._tasks = [
            asyncio.create_task(self._announce_forever(router), name=f"announce to {router}")
            for router in self._routers
        ]

    async def leave(self) -> None:
        """Tell all routers, as far as they answer soon, and be silent from then on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        goodbyes = (self._announce(router, leaving=True) for router in self._routers)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*goodbyes), LEAVE_TIMEOUT_S)
        await self._http.aclose()

    async def _announce_forever(self, router: str) -> None:
        failures = 0
        while True:
            trouble = await self._announce(router, leaving=False)
            if not trouble and failures >= UNHEARD_TIMES:
                logger.warning("router %s hears us again", router)
            failures = failures + 1 if trouble else 0
            if failures == UNHEARD_TIMES:
                logger.warning("router %s does not hear us: %s; going on trying", router, trouble)
            await asyncio.sleep(ANNOUNCE_EVERY_S)

    async def _announce(self, router: str, *, leaving: bool) -> str:
        """Empty when the router took it, else why not. Not ready: silence sends requests elsewhere."""
        if not leaving and not self._coordinator.is_ready()[0]:
            return ""
        said = {
            "name": self._coordinator.settings.name,
            "address": self._address,
            "incarnation": self._coordinator.incarnation,
            "load": self._coordinator.load,
            "leaving": leaving,
        }
        try:
            response = await self._http.post(f"{router}/router/announce", json=said)
        except Exception as error:  # noqa: BLE001  whatever it is: who falls silent for ever gets no work
            return str(error) or type(error).__name__
        return "" if response.is_success else f"it answers {response.status_code} {response.text[:200]}"
