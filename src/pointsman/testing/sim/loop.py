"""A deterministic event loop: the clock jumps to the next timer, a seed chooses among ready callbacks.

It knows simulated processes: a callback belongs to the process in whose context it was scheduled, and the
callbacks of a stopped or dead process are held, as by an operating system. Threads are refused: nothing may
depend on what the machine does meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import threading
from asyncio import futures
from collections.abc import AsyncGenerator, Callable
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVarTuple

Ts = TypeVarTuple("Ts")

STEPS_MAX = 400_000
"""Callbacks in one schedule; a schedule that needs more is in a livelock."""


STEP_S = 1e-7
"""Virtual seconds that a callback takes: time must pass, or a wait for the last femtosecond never ends."""


class Livelock(BaseException):
    """More callbacks than any sound schedule needs. Not an Exception: nothing under test may catch it."""


class Deadlock(BaseException):
    """Nothing is ready and no timer is set."""


class Clocks(Protocol):
    """What a process's machine says the time is."""

    def wall(self) -> float: ...
    def monotonic(self) -> float: ...


class Process:
    """A simulated operating system process: what runs in its context belongs to it."""

    __slots__ = ("clocks", "held", "is_dead", "is_held", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_held = False
        self.is_dead = False
        self.held: list[Entry] = []
        self.clocks: Clocks | None = None


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Entry(asyncio.TimerHandle):
    """A callback that is ready or waits for its time. Far cheaper than its parent, which compares in Python."""

    __slots__ = ("late",)

    _callback: Callable[..., object] | None
    _args: tuple[Any, ...]
    _context: Context
    _when: float

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context, when: float) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._when = when
        self.late = False

    def cancel(self) -> None:
        self._callback = None
        self._args = ()

    def cancelled(self) -> bool:
        return self._callback is None

    def __repr__(self) -> str:
        return f"<{self._callback} at {self._when}>"


class SimLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time, whose order of callbacks a seed chooses.

    Attributes:
        steps: callbacks run so far.
        inline: functions that `asyncio.to_thread` runs at once: they wait for nothing but this machine's disk.
        was_held: the callback that runs now was held back while its process was stopped.
        instant: callbacks that do nothing but give a future its result. When their time has come they run at once, also
            those of a stopped process: whoever waits for the future is chosen among the ready, or held, as ever.
    """

    def __init__(self, rng: random.Random, *, steps_max: int = STEPS_MAX) -> None:
        super().__init__()
        self.steps = 0
        self.steps_max = steps_max
        self.was_held = False
        self.inline: set[Callable[..., object]] = set()
        self.instant: set[Callable[..., object]] = {futures._set_result_unless_cancelled}  # type: ignore[attr-defined]
        self._rng = rng
        self._virtual = 0.0
        self._number = 0
        self._runnable: list[Entry] = []
        self._timers: list[tuple[float, int, Entry]] = []

    def time(self) -> float:
        return self._virtual

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        entry = Entry(callback, args, copy_context() if context is None else context, 0.0)
        self._runnable.append(entry)
        return entry

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        entry = Entry(callback, args, copy_context() if context is None else context, when)
        self._number = number = self._number + 1
        heappush(self._timers, (when, number, entry))
        return entry

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        when = self._virtual + delay
        entry = Entry(callback, args, copy_context() if context is None else context, when)
        self._number = number = self._number + 1
        heappush(self._timers, (when, number, entry))
        return entry

    def hold(self, process: Process) -> None:
        """Stop a process: none of its callbacks runs until `release`."""
        process.is_held = True

    def release(self, process: Process) -> None:
        """Continue a process: what had become ready meanwhile is ready now."""
        process.is_held = False
        for entry in process.held:
            entry.late = True
        self._runnable.extend(process.held)
        process.held = []

    def _run_once(self) -> None:
        """Run callbacks until the loop is stopped: a schedule is thousands of them."""
        ready, timers, draw, instant = self._runnable, self._timers, self._rng.random, self.instant
        stopping: Any = self
        while not stopping._stopping:
            while timers and (not ready or timers[0][0] <= self._virtual):
                when, _, entry = heappop(timers)
                callback = entry._callback
                if callback is not None:
                    if when > self._virtual:
                        self._virtual = when
                    if callback in instant:
                        callback(*entry._args)
                    else:
                        ready.append(entry)
            if not ready:
                raise Deadlock("nothing is ready and no timer is set")
            self.steps += 1
            self._virtual += STEP_S
            if self.steps > self.steps_max:
                raise Livelock(f"more than {self.steps_max} callbacks, at {self._virtual:.3f} s")
            place = int(draw() * len(ready))
            entry, ready[place] = ready[place], ready[-1]
            ready.pop()
            callback = entry._callback
            if callback is None:
                continue
            process = entry._context.get(PROCESS)
            if process is not None and process.is_held:
                process.held.append(entry)
                continue
            self.was_held = entry.late
            try:
                entry._context.run(callback, *entry._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio does: a callback's error is the handler's
                self.call_exception_handler({"message": f"exception in {entry!r}", "exception": error})

    # -- what a loop of the operating system would do ------

    def _process_events(self, event_list: Any) -> None:
        del event_list

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing needs waking."""

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        """An async generator that was dropped half way: a loop of the operating system expects it from any thread."""
        if not self.is_closed():
            self.call_soon(self.create_task, agen.aclose())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """What `asyncio.to_thread` gives to a thread is done at once, where it is known to be harmless."""
        del executor
        if next(iter(getattr(func, "args", ())), None) not in self.inline:
            raise RuntimeError(f"no threads in a simulation: {func!r}")
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - told to who waits for it, as by a thread
            future.set_exception(error)
        return future

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """From a callback of this loop, that is `call_soon`."""
        if threading.get_ident() != getattr(self, "_thread_id", None):
            raise RuntimeError(f"no threads in a simulation: {callback!r}")
        return self.call_soon(callback, *args, context=context)
