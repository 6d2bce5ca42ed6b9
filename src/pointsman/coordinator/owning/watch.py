"""Watch runs for clients that wait: appends of this coordinator are noticed at once, those of others by polling."""

from __future__ import annotations

import asyncio
from typing import Self

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import EventLog


class Watch:
    """A client's watch on one run, to be used as a context manager.

    Args:
        each: wake at every append, not only when the run leaves this coordinator.
    """

    def __init__(self, watches: dict[str, list[Watch]], run: str, *, each: bool) -> None:
        self._watches = watches
        self._run = run
        self.each = each
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None
        """A future and a timer of its own: an Event under `asyncio.timeout` costs every run 4 µs more."""

    def __enter__(self) -> Self:
        self._watches.setdefault(self._run, []).append(self)
        return self

    def __exit__(self, *_: object) -> None:
        watches = self._watches[self._run]
        watches.remove(self)
        if not watches:
            del self._watches[self._run]

    def notify(self) -> None:
        self._has_news = True
        self._wake()

    async def changed(self, timeout_s: float) -> bool:
        """Wait for a change. Returns False if none came in time. A change since the last call counts."""
        if not self._has_news:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
        news, self._has_news = self._has_news, False
        return news

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Watcher:
    """A service: `start`, `watch`, `stop`."""

    def __init__(self, log: EventLog, *, poll_ms: int) -> None:
        self._log = log
        self._poll_s = poll_ms / 1000
        self._watches: dict[str, list[Watch]] = {}
        self._sequences: dict[str, int] = {}
        """As the last poll saw them, of runs that are watched."""
        self._local: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._poll(), name="watcher")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for watches in self._watches.values():
            for watch in watches:
                watch.notify()

    def watch(self, run: str, *, each: bool) -> Watch:
        return Watch(self._watches, run, each=each)

    def moved(self, run: str) -> None:
        """Note that this coordinator appended to the run."""
        for watch in self._watches.get(run, ()):
            if watch.each:
                watch.notify()

    def _news(self, run: str) -> None:
        for watch in self._watches.get(run, ()):
            watch.notify()

    def driven_here(self, run: str, is_driven: bool) -> None:
        """Runs driven here need no poll."""
        if is_driven:
            self._local.add(run)
        else:
            self._local.discard(run)
        self._news(run)  # at its coming too: what its former owner appended was left to the poll, which stops now

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            for run in self._sequences.keys() - self._watches.keys():
                del self._sequences[run]
            elsewhere = [run for run in self._watches if run not in self._local]
            if not elsewhere:
                continue
            try:
                heads = await self._log.heads(elsewhere)
            except StoreUnavailable:
                continue
            for run, head in heads.items():
                if self._sequences.get(run) != head.sequence:
                    self._sequences[run] = head.sequence
                    self._news(run)
