"""When a coordinator process has become too old or too large: it takes its turn, and asks to be replaced.

Must not know how a process ends or begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pointsman.kernel.errors import PointsmanError, StoreUnavailable
from pointsman.node.turn import Turn

LOOK_S: Final = 0.5
JITTER: Final = 0.1
"""Coordinators that started together do not all become too old at the same moment: each lives for 90 to 100 % of the
age, by chance."""
MEGABYTE: Final = 1_000_000

logger = logging.getLogger("pointsman.node")


class MemoryUnknown(PointsmanError):
    """This system does not say how much memory a process has (there is no /proc): leave --max-rss out."""

    code = "memory_unknown"


@dataclass(frozen=True)
class Limits:
    """Attributes:
    age_s: seconds after which the process replaces itself; None for never.
    rss_bytes: resident memory beyond which it does; None for any.

    Raises ValueError when a value makes no sense, MemoryUnknown.
    """

    age_s: float | None = None
    rss_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("age", self.age_s), ("rss", self.rss_bytes)):
            if value is not None and not value > 0:
                raise ValueError(f"max {name} is {value}; it must be more than 0")
        if self.rss_bytes is not None:
            rss_bytes()

    @property
    def are_set(self) -> bool:
        return self.age_s is not None or self.rss_bytes is not None


class Recycler:
    """Watches one process from `start` to `stop`.

    Args:
        away_ms: how long the replacement may take, at most, before another coordinator may begin.
        clock: seconds that never go back. rss: bytes of resident memory. chance: 0 to 1.
    """

    def __init__(
        self, limits: Limits, turn: Turn, *, away_ms: int, clock: Callable[[], float],
        rss: Callable[[], int] | None = None, chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._limits = limits
        self._turn = turn
        self._away_ms = away_ms
        self._clock = clock
        self._rss = rss or rss_bytes
        self._chance = chance
        self._age_s = None if limits.age_s is None else limits.age_s * (1 - JITTER * chance())
        self._born = clock()
        self._task: asyncio.Task[None] | None = None
        self.is_due = asyncio.Event()
        """The process has its turn: it is to leave now, and to come back."""

    def start(self) -> None:
        if self._limits.are_set:
            self._task = asyncio.create_task(self._watch(), name="recycling")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S * (1 + JITTER * self._chance()))
            why = self._why()
            if why and await self._has_turn():
                logger.info("replacing this process: %s", why)
                self.is_due.set()
                return

    def _why(self) -> str:
        """Empty while it may go on."""
        age_s = self._clock() - self._born
        if self._age_s is not None and age_s >= self._age_s:
            return f"it is {age_s:.0f} s old"
        try:
            if self._limits.rss_bytes is not None and (rss := self._rss()) > self._limits.rss_bytes:
                return f"it has {rss / MEGABYTE:.0f} MB"
        except MemoryUnknown as error:  # no file can be opened just now, say
            logger.warning("the memory of this process: %s; asking again", error)
        return ""

    async def _has_turn(self) -> bool:
        try:
            return await self._turn.take(self._away_ms)
        except StoreUnavailable as error:
            logger.info("no turn to be replaced: %s; asking again", error)
            return False


def rss_bytes() -> int:
    """Resident memory of this process. Raises MemoryUnknown."""
    if sys.platform != "linux":
        raise MemoryUnknown
    try:
        status = Path("/proc/self/status").read_text()
    except OSError as error:
        raise MemoryUnknown(f"/proc/self/status can't be read: {error}") from error
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
