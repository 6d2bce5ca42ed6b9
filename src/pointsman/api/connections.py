"""All connections of a server: what they share, and the one sweeper that ends those past their deadlines.

Must not know what a deadline is for (`protocol.py`).
"""

from __future__ import annotations

import asyncio

from uvicorn.config import Config
from uvicorn.server import ServerState

from pointsman.api.protocol import DeadlineProtocol
from pointsman.api.settings import ApiSettings

LATE_SWEEP_S = 1.0


class Connections:
    """What the connections of a server share: Uvicorn's state, the limits, the sweep."""

    def __init__(self, config: Config, settings: ApiSettings) -> None:
        self.config = config
        self.settings = settings
        self.state = ServerState()
        self.all: set[DeadlineProtocol] = set()
        self.empty = asyncio.Event()
        self.empty.set()
        shortest_s = min(
            settings.headers_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
            settings.write_timeout_s,
        )
        self.sweep_interval_s = min(1.0, shortest_s / 4)

    def accept(self) -> DeadlineProtocol:
        return DeadlineProtocol(self)

    async def sweep_forever(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self.sweep_interval_s
        while True:
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            self.sweep(now, late_s=now - due)
            due = now + self.sweep_interval_s

    def sweep(self, now: float, *, late_s: float = 0.0) -> None:
        """Close connections that are past their deadline. A late sweep means that this process stood still and has not
        read yet what arrived meanwhile, so deadlines are extended by that time.
        """
        pardon_s = late_s if late_s > LATE_SWEEP_S else 0.0
        for connection in list(self.all):
            connection.expire(now, pardon_s=pardon_s)
