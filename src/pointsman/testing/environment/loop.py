"""An event loop whose time is skipped: when nothing is left to do, the next timer is due at once.

Threads and sockets work as in any loop. While an agent is busy in a thread or on the network, time passes as the
machine's does, because nothing else can be known of it.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

STEP_S = 1e-6
"""A look around takes so long: time must pass, or a wait for the last femtosecond never ends."""
LONGEST_REAL_WAIT_S = 0.05


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop that skips waiting time.

    Attributes:
        has_outside_work: are agents at work that may wait for the network? Asked before time is skipped.
    """

    def __init__(self) -> None:
        self.has_outside_work: Callable[[], bool] = lambda: False
        self._virtual = 0.0
        self._in_threads = 0
        self._skipping = _SkippingSelector(self)
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._virtual

    def advance(self, seconds: float) -> None:
        self._virtual += seconds + STEP_S

    def must_wait(self) -> bool:
        """Something happens outside of this loop's time."""
        return self._in_threads > 0 or (self._skipping.has_sockets and self.has_outside_work())

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:  # fmt: skip
        future = super().run_in_executor(executor, func, *args)
        self._in_threads += 1
        future.add_done_callback(lambda _: self._thread_ended())
        return future

    def _thread_ended(self) -> None:
        self._in_threads -= 1


class _SkippingSelector(selectors.BaseSelector):
    """The system's selector, which is asked what is there, and waits only where the loop must."""

    def __init__(self, loop: SkippingLoop) -> None:
        self._loop = loop
        self._inner = selectors.DefaultSelector()

    @property
    def has_sockets(self) -> bool:
        return len(self._inner.get_map()) > 1  # one is the loop's own, by which threads wake it

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._inner.select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._loop.advance(0.0)
            return ready
        if timeout is None or self._loop.must_wait():
            began = time.monotonic()
            ready = self._inner.select(min(timeout or LONGEST_REAL_WAIT_S, LONGEST_REAL_WAIT_S))
            self._loop.advance(time.monotonic() - began)
            return ready
        self._loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


class SkippingClock:
    """The store's clock. `skip` puts it forward, while everything rests."""

    def __init__(self, loop: SkippingLoop, started_ms: int) -> None:
        self._loop = loop
        self._now_ms = started_ms

    def now(self) -> int:
        return self._now_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def skip(self, ms: int) -> None:
        self._now_ms += ms
