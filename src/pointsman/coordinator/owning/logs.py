"""The logs of runs that were claimed together, read whole, with no more of them in memory than the runs need.

Usually they fit into one answer of the store, and one statement is all. Otherwise they come in several, because an
answer of unlimited size could fill the memory, here and then in whoever takes over, or take longer than a statement
may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import EventLog, size_of, was_cut

PAGE = 1_000
"""Events of one run read in one statement."""
FIRST_PAGE = 200
"""Events of each run read in the statement for a whole batch: most runs have fewer."""

T = TypeVar("T")


class ClaimedLogs:
    """Reads the log of each run, to be asked for in their order; runs may be skipped.

    Args:
        after: by run, the sequence after which to read.
        bytes_max: limit on bodies in one answer.
        retry_ms: pause before the store is asked again when it could not be reached; a claimed run is not given up for
            that.
    """

    def __init__(self, log: EventLog, after: Mapping[str, int], *, bytes_max: int, retry_ms: int) -> None:
        self._log = log
        self._unread = dict(after)
        self._read: dict[str, tuple[list[Recorded], bool]] = {}
        self._after = after
        self._bytes_max = bytes_max
        self._retry_s = retry_ms / 1000

    async def of(self, run: str) -> list[Recorded]:
        """All events of the run, including those that its head does not know of."""
        while run in self._unread:
            await self._read_together()
        events, is_whole = self._read.pop(run)
        while not is_whole:
            last = events[-1].sequence if events else self._after[run]
            page, bytes_max = await self._surely(
                lambda within, last=last: self._log.read(run, after=last, limit=PAGE, bytes_max=within)  # type: ignore[misc]
            )
            events += page
            # An event that was moved may say that it comes before the last one: there is no way on from it.
            is_whole = not was_cut(page, PAGE, bytes_max) or page[-1].sequence <= last
        return events

    async def _read_together(self) -> None:
        """Read the log of the next run, with as much of the following ones as fits."""
        asked = dict(self._unread)
        found, bytes_max = await self._surely(
            lambda within: self._log.read_many(asked, limit=FIRST_PAGE, bytes_max=within)
        )
        size: float = 0
        for run in asked:
            page, was_full = found[run], size >= bytes_max
            size += size_of(page)
            if page or not was_full:  # else it may not have had its turn
                del self._unread[run]
                self._read[run] = page, len(page) < FIRST_PAGE and size < bytes_max

    async def _surely(self, ask: Callable[[int], Awaitable[T]]) -> tuple[T, int]:
        """Ask until there is an answer, halving the limit each time: the store may be unable to give so much in time.

        Returns:
            the answer, and the limit in bytes that it was asked with.
        """
        within = self._bytes_max
        while True:
            try:
                return await ask(within), within
            except StoreUnavailable:
                within = max(within // 2, 1)
                await asyncio.sleep(self._retry_s)
