"""Group commit in two lanes: while one append is under way, what becomes ready waits, and goes in the next.

An idle system pays no delay, and a busy one pays one commit for hundreds of steps. A run is always in the same
lane, so its appends never overtake each other. It knows nothing of workflows; it answers what became of each
append, also when the reply was lost.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import InvalidValue, StoreUnavailable
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Append, AppendResult, EventLog, Outcome, Resolution

LANES = 2
RECONNECT_S = 0.05
BUSY_TICKETS = 8
LINGER_TURNS = 4
"""A lane whose last batch was no small one gives the event loop so many turns before it takes the next: the runs of
that batch, which are being answered just now, are ready again after three, and join it. Larger batches cost less a
run."""

logger = logging.getLogger("pointsman.recorder")
_body_of = attrgetter("body")


class Ticket:
    """Appends that must travel in one statement (a run, and children that it starts), and where the answer to the first
    of them goes."""

    __slots__ = ("appends", "done")

    def __init__(self, appends: Sequence[Append], done: asyncio.Future[AppendResult]) -> None:
        self.appends = appends
        self.done = done


class Recorder:
    """A service: `start`, `submit`, `stop`."""

    def __init__(self, log: EventLog, settings: CoordinatorSettings, stats: Stats) -> None:
        self._log = log
        self._settings = settings
        self._stats = stats
        self._queues: list[deque[Ticket]] = [deque() for _ in range(LANES)]
        self._wakes: list[asyncio.Event] = [asyncio.Event() for _ in range(LANES)]
        self._tasks: list[asyncio.Task[None]] = []
        self._is_stopped = False
        self._began = [0.0] * LANES
        """When the append of each lane that is on its way began; 0: none is."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(lane), name=f"recorder-{lane}") for lane in range(LANES)]

    async def stop(self) -> None:
        """Appends under way end, and nobody hears how; what waits is dropped. Whoever still waits is told so."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._queues:
            while queue:
                _give_up(queue.popleft().done)

    def submit(self, appends: Sequence[Append]) -> asyncio.Future[AppendResult]:
        """Queue appends that belong together, the owner's run first: the answer is of that one. One run is queued once
        until its answer is there. Raises StoreUnavailable, when it is awaited: this recorder is stopped, and what
        became of them is unknown."""
        done: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        if self._is_stopped:
            _give_up(done)
            return done
        lane = zlib.crc32(appends[0].run.encode()) % LANES
        queue = self._queues[lane]
        if not queue:  # else its lane is on its way to it
            self._wakes[lane].set()
        queue.append(Ticket(appends, done))
        return done

    @property
    def depth(self) -> int:
        """Appends that wait for their lane."""
        return sum(len(queue) for queue in self._queues)

    @property
    def oldest_s(self) -> float:
        """How long the append has been on its way that began first (seconds)."""
        began = min((began for began in self._began if began), default=0.0)
        return asyncio.get_running_loop().time() - began if began else 0.0

    async def _run(self, lane: int) -> None:
        queue, wake, is_busy = self._queues[lane], self._wakes[lane], False
        while True:
            if not queue:
                wake.clear()
                await wake.wait()
            if is_busy:
                for _ in range(LINGER_TURNS):
                    await asyncio.sleep(0)
            tickets = self._take(queue)
            is_busy = len(tickets) >= BUSY_TICKETS
            try:
                await self._append_or_halve(tickets, lane)
            except asyncio.CancelledError:
                for ticket in tickets:
                    _give_up(ticket.done)
                raise

    async def _append_or_halve(self, tickets: list[Ticket], lane: int) -> None:
        """A refused batch goes again in two halves, so that one bad run costs its neighbours few statements (two for
        each doubling of their number) and nothing else; who is refused alone is told why."""
        try:
            await self._append(tickets, lane)
            return
        except Exception as error:
            if not isinstance(error, InvalidValue):
                logger.exception("lane %d: an append of %d runs failed", lane, len(tickets))
            if len(tickets) == 1:
                logger.warning("an append of run %s was refused: %s", tickets[0].appends[0].run, error)
                if not tickets[0].done.done():
                    tickets[0].done.set_exception(error)
                return
        self._stats.appends_refused += 1
        middle = len(tickets) // 2
        await self._append_or_halve(tickets[:middle], lane)
        await self._append_or_halve(tickets[middle:], lane)

    def _take(self, queue: deque[Ticket]) -> list[Ticket]:
        """The next batch: limited in runs and bytes; no run in it twice, or both moved and addressed by a letter."""
        tickets: list[Ticket] = []
        left: list[Ticket] = []
        moved: set[str] = set()
        addressed: set[str] = set()
        runs = size = 0
        while queue and runs < self._settings.batch_runs_max and size < self._settings.batch_bytes_max:
            ticket = queue.popleft()
            if not _fits(ticket, moved, addressed):
                left.append(ticket)
                continue
            tickets.append(ticket)
            for append in ticket.appends:
                moved.add(append.run)
                if append.letter is not None:
                    addressed.add(append.letter.run)
                runs += 1
                size += sum(map(len, map(_body_of, append.events)))
        queue.extendleft(reversed(left))
        return tickets

    async def _append(self, tickets: list[Ticket], lane: int) -> None:
        batch = [append for ticket in tickets for append in ticket.appends]
        clock = asyncio.get_running_loop().time
        began = self._began[lane] = clock()
        try:
            results = await self._log.append(batch, lane=lane)
            self._stats.append_latency.observe(clock() - began)
        except StoreUnavailable as error:
            self._stats.append_errors += 1
            logger.warning("an append of %d runs was not answered (%s): finding out", len(batch), error)
            results = await self._find_out(batch, lane)
        finally:
            self._began[lane] = 0.0
        self._stats.appends += 1
        self._stats.appended_runs += len(batch)
        position = 0
        for ticket in tickets:
            if not ticket.done.done():
                ticket.done.set_result(results[position])
            position += len(ticket.appends)

    async def _find_out(self, batch: list[Append], lane: int) -> list[AppendResult]:
        """The reply was lost: everything is possible. Ask for each run, and append again what never came."""
        results: dict[str, AppendResult] = {}
        while len(results) < len(batch):
            open_appends = [append for append in batch if append.run not in results]
            try:
                absent = []
                for append in open_appends:
                    resolution = await self._log.resolve(append)
                    if resolution is Resolution.ABSENT:
                        absent.append(append)
                    else:
                        ours = resolution is Resolution.OURS
                        results[append.run] = AppendResult(Outcome.MOVED if ours else Outcome.CONFLICT)
                if absent:
                    again = await self._log.append(absent, lane=lane)
                    results.update((append.run, result) for append, result in zip(absent, again, strict=True))
            except StoreUnavailable:
                self._stats.append_errors += 1
                await asyncio.sleep(RECONNECT_S)
        return [results[append.run] for append in batch]


def _fits(ticket: Ticket, moved: set[str], addressed: set[str]) -> bool:
    """May it go with runs that move, and those that get letters from them?"""
    for append in ticket.appends:
        letter = append.letter
        if append.run in moved or append.run in addressed or (letter is not None and letter.run in moved):
            return False
    return True


def _give_up(done: asyncio.Future[AppendResult]) -> None:
    if not done.done():
        done.set_exception(StoreUnavailable("this coordinator has lost its lease, or leaves: ask again"))
