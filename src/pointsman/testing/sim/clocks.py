"""Time in a schedule: the database's clock is true; each process has a wall clock and a monotonic clock that are not.

While a schedule runs, the clocks of Python's `time` are those of the simulated process that asks: what reads a wall
clock gets one that is up to five minutes wrong, another one after each takeover.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pointsman.stores.postgres.clock import PostgresClock
from pointsman.testing.sim.loop import PROCESS, SimLoop

EPOCH_MS = 1_700_000_000_000
SKEW_MAX_S = 300.0
DRIFT_MAX = 0.002
"""Two seconds in a thousand: twenty times what a quartz does."""


class SimClock:
    """The database's clock. `skip` puts it forward, while everything rests."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._skipped_ms = 0

    def now(self) -> int:
        return EPOCH_MS + self._skipped_ms + int(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def skip(self, ms: int) -> None:
        self._skipped_ms += ms


class ProcessClocks:
    """The clocks of one process's machine."""

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self._loop = loop
        self._skew_s = rng.uniform(-SKEW_MAX_S, SKEW_MAX_S)
        self._origin_s = rng.uniform(0, 2 * SKEW_MAX_S)
        self._rate = 1 + rng.uniform(-DRIFT_MAX, DRIFT_MAX)

    def wall(self) -> float:
        return EPOCH_MS / 1000 + self._skew_s + self._loop.time()

    def monotonic(self) -> float:
        return self._origin_s + self._loop.time() * self._rate


INFINITE = float("inf")


class EstimatedClock(PostgresClock):
    """Production's estimate of the database's clock, on a process's own clocks. Must be made within `skewed`.

    Attributes:
        early_ms: how far ahead of the truth it was at most.
    """

    def __init__(self, true: SimClock, clocks: ProcessClocks) -> None:
        self._true = true
        self._clocks = clocks
        self.early_ms = 0
        super().__init__()
        self._offset_ms = (clocks.wall() - clocks.monotonic()) * 1000

    def now(self) -> int:
        clocks = self._clocks
        now = int((clocks._origin_s + clocks._loop._virtual * clocks._rate) * 1000 + self._offset_ms)
        if now <= self._latest:
            return self._latest  # as early as it was
        self._latest = now
        if self._width_s < INFINITE and (early := now - self._true.now()) > self.early_ms:
            self.early_ms = early
        return now

    def monotonic(self) -> float:
        return self._clocks.monotonic()


@contextmanager
def skewed(loop: SimLoop, rng: random.Random) -> Iterator[None]:
    """Give the clocks of `time`, `os.urandom` and the `random` module to the schedule, so that a user's code is in its
    hands."""

    def wall() -> float:
        process = PROCESS.get()
        return process.clocks.wall() if process is not None and process.clocks else EPOCH_MS / 1000 + loop.time()

    def monotonic() -> float:
        process = PROCESS.get()
        return process.clocks.monotonic() if process is not None and process.clocks else loop.time()

    before = time.time, time.time_ns, os.urandom, time.monotonic, random.getstate()
    time.time, time.time_ns, os.urandom = wall, lambda: int(wall() * 1e9), rng.randbytes
    time.monotonic = monotonic
    random.seed(rng.getrandbits(64))
    try:
        yield
    finally:
        time.time, time.time_ns, os.urandom, time.monotonic = before[:4]
        random.setstate(before[4])
