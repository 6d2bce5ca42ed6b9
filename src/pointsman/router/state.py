"""What all parts of one router share: settings, clock, members, connections, counters.

Must not know what any of them does with it.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from pointsman.router.membership import Membership
from pointsman.router.metrics import Metrics
from pointsman.router.pool import Upstreams
from pointsman.router.reading import Held
from pointsman.router.settings import RouterSettings

if TYPE_CHECKING:
    from pointsman.router.protocol import ClientConnection


class RouterState:
    """One per router. `stopping` is set when no connection may be kept."""

    def __init__(self, settings: RouterSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.membership = Membership(
            static=settings.coordinators,
            silent_s=settings.silent_s,
            forget_s=settings.forget_s,
            down_s=settings.down_s,
            coordinators_max=settings.coordinators_max,
        )
        self.upstreams = Upstreams(settings, clock)
        self.metrics = Metrics()
        self.held = Held(settings.bodies_bytes_max)
        self.clients: set[ClientConnection] = set()
        self.connections_max = settings.connections_max
        self.stopping = False
        self.on_client_gone: Callable[[], None] | None = None
        self._request_prefix = secrets.token_hex(6)
        self._request_number = itertools.count(1)

    def new_request_id(self) -> bytes:
        """Unique, and readable as the n-th of one router process."""
        return b"%b-%x" % (self._request_prefix.encode(), next(self._request_number))

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(16)
