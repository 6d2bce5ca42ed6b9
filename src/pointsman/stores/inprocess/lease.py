"""A hold on one incarnation: renewed by a task every fifth of the TTL, judged by its holder's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.clock import Clock

MARGIN = 0.1
"""Part of the TTL that a holder does not rely on."""


class InProcessLease:
    """See `ports/liveness.py`. Must be made inside a running loop.

    Args:
        sent: the moment, on `clock`'s monotonic, before the registration was sent.
        renew: extends the lease; False when the incarnation was ended.
        end: ends the incarnation.
    """

    def __init__(
        self, incarnation: int, ttl_ms: int, sent: float, clock: Clock,
        renew: Callable[[int], Awaitable[bool]], end: Callable[[int], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._incarnation = incarnation
        self._ttl_s = ttl_ms / 1000
        self._clock = clock
        self._renew = renew
        self._end = end
        self._trusted_until = sent + self._ttl_s * (1 - MARGIN)
        self._lost = asyncio.Event()
        self._released = False
        self._task = asyncio.create_task(self._keep(), name=f"lease of incarnation {incarnation}")

    @property
    def incarnation(self) -> int:
        return self._incarnation

    def is_trusted(self) -> bool:
        return not self._lost.is_set() and self._clock.monotonic() < self._trusted_until

    async def lost(self) -> None:
        await self._lost.wait()

    async def release(self) -> None:
        if not self._released:
            self._lost.set()
            await self.stop()
            await self._end(self._incarnation)
            self._released = True

    async def stop(self) -> None:
        """Stop renewing; the incarnation lives on until somebody ends it."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _keep(self) -> None:
        while True:
            left = self._trusted_until - self._clock.monotonic()
            if left <= 0:
                break
            await asyncio.sleep(min(self._ttl_s / 5, left))
            sent = self._clock.monotonic()
            if sent >= self._trusted_until:
                break
            try:
                if not await self._renew(self._incarnation):
                    break
            except StoreUnavailable:
                continue
            self._trusted_until = sent + self._ttl_s * (1 - MARGIN)
        self._lost.set()
