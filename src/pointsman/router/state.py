"""What all parts of one router share: settings, clock, members, connections, counters.

Must not know what any of them does with it.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from pointsman.router.membership import Member, Membership
from pointsman.router.metrics import Metrics
from pointsman.router.pool import Upstreams
from pointsman.router.reading import HeldBodies
from pointsman.router.settings import RouterSettings

if TYPE_CHECKING:
    from pointsman.router.protocol import ClientConnection


class RouterState:
    """One per router.

    Attributes:
        stopping: no connection may be kept.
        full_until: two coordinators have just shed one request: until then what is shed is passed on at once.
    """

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
        self.held = HeldBodies(settings.bodies_bytes_max)
        self.clients: set[ClientConnection] = set()
        self.connections_max = settings.connections_max
        self.stopping = False
        self.full_until = -math.inf
        self.on_client_gone: Callable[[], None] | None = None
        self._request_prefix = secrets.token_hex(6)
        self._request_number = itertools.count(1)

    def new_request_id(self) -> bytes:
        """Unique, and readable as the n-th of one router process."""
        return b"%b-%x" % (self._request_prefix.encode(), next(self._request_number))

    def may_try_another(self, tried: Collection[Member], *, is_second: bool) -> bool:
        """May a run that was shed be offered to another coordinator? Once, and not when all were found full just now:
        else each request of an overload would go to all of them."""
        now = self.clock()
        if is_second:
            self.full_until = now + self.settings.down_s
            return False
        return now >= self.full_until and self.membership.has_other(tried, now)

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(16)
