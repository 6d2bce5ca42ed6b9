"""Group commit in two lanes: while one append is under way, what becomes ready waits, and goes into the next.

An idle system pays no delay, and a busy one pays one commit for dozens of steps. The lanes alternate: the runs of one
lane go on while the append of the other is under way. A run always uses the same lane, so its appends never overtake
each other. The recorder knows nothing of workflows. It reports the outcome of each append, even if the store's reply
was lost.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter

import msgspec

from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import InvalidValue, StoreUnavailable
from pointsman.observe.stats import Stats
from pointsman.ports.event_log import Append, AppendResult, EventLog, Outcome, Resolution

LANES = 2
RECONNECT_S = 0.05
BUSY_TICKETS = 8
LINGER_TURNS = 2
"""A lane whose last batch was no small one gives the event loop so many turns before it takes the next: the runs of
that batch, which are being answered just now, are ready again then, and runs that are started where one of them ended.
Larger batches cost less a run."""

logger = logging.getLogger("pointsman.recorder")
_appends_of, _events_of, _body_of = attrgetter("appends"), attrgetter("events"), attrgetter("body")


Answer = Callable[[AppendResult | Exception], None]
"""Told what became of an append; it must not raise. The first time counts: a recorder that is stopped tells everybody
StoreUnavailable, also those whom it has just told."""


def lane_of(run: str) -> int:
    """The lane of a run, always the same."""
    return zlib.crc32(run.encode()) % LANES


class Ticket(msgspec.Struct, eq=False):
    """Appends that must go in one statement (a run, and the children that it starts), and the callback for the first of
    them.
    """

    appends: Sequence[Append]
    answer: Answer


class Recorder:
    """A service: `start`, `submit` and `append`, `stop`."""

    def __init__(self, log: EventLog, settings: CoordinatorSettings, stats: Stats) -> None:
        self._log = log
        self._settings = settings
        self._stats = stats
        self._queues: list[deque[Ticket]] = [deque() for _ in range(LANES)]
        self._wakes: list[asyncio.Event] = [asyncio.Event() for _ in range(LANES)]
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()
        """Held by the lane whose runs are being answered and go on. Without it both lanes would soon send in the same
        moment, and the event loop idle until both are answered."""
        self._is_stopped = False
        self._began = [0.0] * LANES
        """When the append of each lane that is on its way began; 0: none is."""

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(lane), name=f"recorder-{lane}") for lane in range(LANES)]

    async def stop(self) -> None:
        """Stop. Appends under way end unobserved, and those that wait are dropped; callers that still wait are
        told so.
        """
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._queues:
            while queue:
                queue.popleft().answer(_gone())

    def append(self, appends: Sequence[Append]) -> asyncio.Future[AppendResult]:
        """Submit and await the answer. Raises StoreUnavailable."""
        done: asyncio.Future[AppendResult] = asyncio.get_running_loop().create_future()
        self.submit(appends, lane_of(appends[0].run), partial(_resolve, done))
        return done

    def submit(self, appends: Sequence[Append], lane: int, answer: Answer) -> None:
        """Queue appends that belong together, the owner's run first; `answer` is called with the outcome of that one. A
        run may be queued again only after its answer.
        """
        ticket = Ticket(appends, answer)
        if self._is_stopped:
            ticket.answer(_gone())
            return
        queue = self._queues[lane]
        if not queue:  # else its lane is on its way to it
            self._wakes[lane].set()
        queue.append(ticket)

    @property
    def depth(self) -> int:
        """The number of appends that wait for their lane."""
        return sum(len(queue) for queue in self._queues)

    @property
    def oldest_s(self) -> float:
        """The age in seconds of the oldest append under way."""
        began = min((began for began in self._began if began), default=0.0)
        return asyncio.get_running_loop().time() - began if began else 0.0

    async def _run(self, lane: int) -> None:
        queue, wake = self._queues[lane], self._wakes[lane]
        tickets = self._take(queue)
        try:
            while True:
                if not tickets:
                    wake.clear()
                    await wake.wait()
                    tickets = self._take(queue)
                answers = await self._append_or_halve(tickets, lane)
                async with self._turn:
                    _tell(tickets, answers)
                    if len(tickets) >= BUSY_TICKETS:
                        for _ in range(LINGER_TURNS):
                            await asyncio.sleep(0)
                    tickets = self._take(queue)
        finally:
            _tell(tickets, [_gone() for _ in tickets])

    async def _append_or_halve(self, tickets: list[Ticket], lane: int) -> list[AppendResult | Exception]:
        """Append and return the answer to each.

        A refused batch is sent again in two halves, so that one bad run costs its neighbours only a few statements (two
        for each doubling of their number). The run that is refused alone is told why.
        """
        try:
            return await self._append(tickets, lane)
        except Exception as error:
            if not isinstance(error, InvalidValue):
                logger.exception("lane %d: an append of %d runs failed", lane, len(tickets))
            if len(tickets) == 1:
                logger.warning("an append of run %s was refused: %s", tickets[0].appends[0].run, error)
                return [error]
        self._stats.appends_refused += 1
        middle = len(tickets) // 2
        first = await self._append_or_halve(tickets[:middle], lane)
        return first + await self._append_or_halve(tickets[middle:], lane)

    def _take(self, queue: deque[Ticket]) -> list[Ticket]:
        """Take the next batch, limited in runs and bytes, of runs that may go together."""
        tickets = [queue.popleft() for _ in range(min(len(queue), self._settings.batch_runs_max))]
        appends = _appends(tickets)
        if not self._fit_together(appends):
            tickets = self._sift(tickets, queue)
        if _size(appends) >= self._settings.batch_bytes_max:
            self._shorten(tickets, queue)
        return tickets

    def _fit_together(self, appends: Sequence[Append]) -> bool:
        """Whether these may go together: not too many, no run twice, and no run both moved and addressed by a
        letter.
        """
        runs = {append.run for append in appends}
        addressed = [append.letter.run for append in appends if append.letter is not None]
        return len(runs) == len(appends) <= self._settings.batch_runs_max and runs.isdisjoint(addressed)

    def _sift(self, tickets: Sequence[Ticket], queue: deque[Ticket]) -> list[Ticket]:
        """Take the first tickets that fit together, at least one; the others go back."""
        fitting: list[Ticket] = []
        left: list[Ticket] = []
        moved: set[str] = set()
        addressed: set[str] = set()
        for ticket in tickets:
            runs = {append.run for append in ticket.appends}
            receivers = {append.letter.run for append in ticket.appends if append.letter is not None}
            is_small = len(moved) + len(runs) <= self._settings.batch_runs_max
            if not fitting or (is_small and moved.isdisjoint(runs | receivers) and addressed.isdisjoint(runs)):
                fitting.append(ticket)
                moved |= runs
                addressed |= receivers
            else:
                left.append(ticket)
        queue.extendleft(reversed(left))
        return fitting

    def _shorten(self, tickets: list[Ticket], queue: deque[Ticket]) -> None:
        """Keep the first tickets up to the limit in bytes, and put the others back."""
        size = 0
        for count, ticket in enumerate(tickets, 1):
            size += _size(ticket.appends)
            if size >= self._settings.batch_bytes_max:
                queue.extendleft(reversed(tickets[count:]))
                del tickets[count:]
                return

    async def _append(self, tickets: list[Ticket], lane: int) -> list[AppendResult | Exception]:
        batch = _appends(tickets)
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
        return _of_the_first(results, tickets)

    async def _find_out(self, batch: list[Append], lane: int) -> list[AppendResult]:
        """Find out what became of appends whose reply was lost: ask for each run, and append again what never
        happened.
        """
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


def _appends(tickets: Sequence[Ticket]) -> list[Append]:
    return list(chain.from_iterable(map(_appends_of, tickets)))


def _of_the_first(results: Sequence[AppendResult], tickets: Sequence[Ticket]) -> list[AppendResult | Exception]:
    """The outcome of the first append of each ticket."""
    answers: list[AppendResult | Exception] = []
    position = 0
    for ticket in tickets:
        answers.append(results[position])
        position += len(ticket.appends)
    return answers


def _size(appends: Sequence[Append]) -> int:
    """The bytes of all bodies."""
    return sum(map(len, map(_body_of, chain.from_iterable(map(_events_of, appends)))))


def _tell(tickets: Sequence[Ticket], answers: Sequence[AppendResult | Exception]) -> None:
    for ticket, answer in zip(tickets, answers, strict=True):
        ticket.answer(answer)


def _gone() -> StoreUnavailable:
    return StoreUnavailable("this coordinator has lost its lease, or leaves: ask again")


def _resolve(done: asyncio.Future[AppendResult], answer: AppendResult | Exception) -> None:
    if done.done():  # whoever waited has left
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
    else:
        done.set_result(answer)
