"""A deterministic event loop: the clock jumps to the next timer, a seed chooses among ready callbacks.

It knows simulated processes: a callback belongs to the process in whose context it was scheduled, and the
callbacks of a stopped or dead process are held, as by an operating system. Threads are refused: nothing may
depend on what the machine does meanwhile.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from contextvars import ContextVar
from typing import Any, NoReturn

STEPS_MAX = 400_000
"""Callbacks in one schedule; a schedule that needs more is in a livelock."""


STEP_S = 1e-7
"""Virtual seconds that a callback takes: time must pass, or a wait for the last femtosecond never ends."""


class Livelock(BaseException):
    """More callbacks than any sound schedule needs. Not an Exception: nothing under test may catch it."""


class Deadlock(BaseException):
    """Nothing is ready and no timer is set."""


class Process:
    """A simulated operating system process: what runs in its context belongs to it."""

    __slots__ = ("held", "is_dead", "is_held", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_held = False
        self.is_dead = False
        self.held: list[asyncio.Handle] = []


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimLoop(asyncio.BaseEventLoop):
    """See the module.

    Attributes:
        steps: callbacks run so far.
        was_held: the callback that runs now was held back while its process was stopped.
    """

    def __init__(self, rng: random.Random, *, steps_max: int = STEPS_MAX) -> None:
        super().__init__()
        self.steps = 0
        self.steps_max = steps_max
        self.was_held = False
        self._rng = rng
        self._virtual = 0.0
        self._ready: list[asyncio.Handle] = []
        self._scheduled: list[asyncio.TimerHandle]
        self._late: set[int] = set()

    def time(self) -> float:
        return self._virtual

    def hold(self, process: Process) -> None:
        """Stop a process: none of its callbacks runs until `release`."""
        process.is_held = True

    def release(self, process: Process) -> None:
        """Continue a process: what had become ready meanwhile is ready now."""
        process.is_held = False
        self._late.update(id(handle) for handle in process.held)
        self._ready.extend(process.held)
        process.held = []

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and (not ready or scheduled[0].when() <= self._virtual):
            timer = heapq.heappop(scheduled)
            if not timer.cancelled():
                self._virtual = max(self._virtual, timer.when())
                ready.append(timer)
        if not ready:
            raise Deadlock("nothing is ready and no timer is set")
        self.steps += 1
        self._virtual += STEP_S
        if self.steps > self.steps_max:
            raise Livelock(f"more than {self.steps_max} callbacks, at {self._virtual:.3f} s")
        place = int(self._rng.random() * len(ready))
        handle, ready[place] = ready[place], ready[-1]
        ready.pop()
        self._run_handle(handle)

    def _run_handle(self, handle: Any) -> None:
        """Any: the context of a handle has no public name before Python 3.12."""
        if handle.cancelled():
            return
        process = handle._context.get(PROCESS)
        if process is not None and process.is_held:
            process.held.append(handle)
            return
        self.was_held = id(handle) in self._late
        if self.was_held:
            self._late.discard(id(handle))
        handle._run()

    # -- what a loop of the operating system would do ------

    def _process_events(self, event_list: Any) -> None:
        del event_list

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing needs waking."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> NoReturn:  # type: ignore[override]
        del executor, args
        raise RuntimeError(f"no threads in a simulation: {func!r}")

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> NoReturn:  # type: ignore[override]
        del args, context
        raise RuntimeError(f"no threads in a simulation: {callback!r}")
