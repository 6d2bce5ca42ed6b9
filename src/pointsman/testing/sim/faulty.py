"""Between a process and the database: latency, lost requests, lost replies, late statements, partitions.

A statement is carried out by the database at one instant, whatever becomes of its sender. What can go wrong:
- *lost*: it never arrives, and the sender is told that the store can't be reached;
- *lost_reply*: it is carried out, and the sender is told the same;
- *late*: the sender is told the same first, and then it is carried out;
- a partition: every statement of this process is lost, or its reply is, whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pointsman.kernel.errors import PointsmanError, StoreUnavailable
from pointsman.ports.event_log import Append
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.reading import at_once

T = TypeVar("T")

NEVER_LATE = ("resolve", "register", "renew", "next_death")
"""`resolve` waits for what is late; a late registration is held by nobody, as after a lost reply."""


@dataclass
class Faults:
    """What goes wrong in a schedule; `heal` ends it. Shares are between 0 and 1."""

    lost: float = 0.0
    lost_reply: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    lost_hint: float = 0.0
    late_hint: float = 0.0
    double_hint: float = 0.0
    is_down: bool = False
    """The database answers nobody."""
    is_stalled: bool = False
    """What is appended is carried out, and no standby has it: nobody hears of it."""
    is_ahead: bool = False
    """The database came back with what no standby has: it can be read, and nothing can be committed."""

    @property
    def worst(self) -> float:
        """The share of statements with which something goes wrong."""
        return self.lost + self.lost_reply + self.late

    @property
    def is_hurt(self) -> bool:
        """Something is wrong with the database itself."""
        return self.is_down or self.is_stalled or self.is_ahead

    def heal(self) -> None:
        self.lost = self.lost_reply = self.late = self.slow = 0.0
        self.lost_hint = self.late_hint = self.double_hint = 0.0
        self.is_down = self.is_stalled = self.is_ahead = False


@dataclass
class Trace:
    """What happened, line by line, and how often what went wrong."""

    loop: SimLoop
    is_on: bool = True
    """Faults are counted in any case."""
    lines: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)

    def say(self, who: str, what: str) -> None:
        if self.is_on:
            self.lines.append(f"{self.loop.time():11.6f} {who:<10} {what}")

    def fault(self, who: str, kind: str, what: str = "") -> None:
        self.faults[kind] = self.faults.get(kind, 0) + 1
        self.say(who, f"FAULT {kind} {what}")


class Network:
    """One process's way to the database."""

    def __init__(self, loop: SimLoop, rng: random.Random, process: Process, faults: Faults, trace: Trace) -> None:
        self.loop = loop
        self.trace = trace
        self.process = process
        self.is_cut = False
        """This process alone can't reach the database."""
        self.is_severed = False
        """The process has ended: nothing that it does has any effect."""
        self._rng = rng
        self._faults = faults
        self._under_way: dict[str, int] = {}
        self._replies: dict[asyncio.Future[Any], None] = {}
        self._server = contextvars.copy_context()
        self._server.run(PROCESS.set, None)
        loop.instant |= {_answer, _fail, _refuse}

    async def call(
        self, name: str, operation: Callable[[], Coroutine[Any, Any, T]], *, about: str = "",
        appends: Sequence[Append] = (),
    ) -> T:  # fmt: skip
        """Send one statement, wait for its reply. Raises StoreUnavailable, and what the operation raises."""
        if self.is_severed:
            raise StoreUnavailable("this process has ended")
        reply: asyncio.Future[T] = self.loop.create_future()
        self._replies[reply] = None
        fate = self._fate(name)
        if fate != "answered":
            self.trace.fault(self.process.name, fate, f"{name} {about}")
        there, back = self._latency(), self._latency()
        sender = contextvars.copy_context()
        what = f"{name} {about}"
        for append in appends:
            self._under_way[append.run] = self._under_way.get(append.run, 0) + 1

        def serve() -> None:
            for append in appends:
                self._under_way[append.run] -= 1
            self._serve(reply, what, lambda: sender.run(at_once, operation()), fate, back)

        if fate == "lost":
            self._under_way.update((append.run, self._under_way[append.run] - 1) for append in appends)
            self._later(there, _fail, reply, f"{name}: no connection")
        elif fate == "late":
            self._later(there, _fail, reply, f"{name}: connection lost")
            self._later(there + 10 * back, serve)
        else:
            self._later(there, serve)
        try:
            return await reply
        finally:
            del self._replies[reply]

    async def resolve(self, append: Append, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """As `call`, behind every statement of this process that may still hold the run's head."""
        while self._under_way.get(append.run):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.005)
        return await self.call("resolve", operation, about=f"{append.run} {append.expected}+{len(append.events)}")

    def drop(self) -> None:
        """Every connection of this process breaks: what was sent may be carried out, and nobody hears of it."""
        for reply in list(self._replies):
            _fail(reply, "connection reset")

    @property
    def is_busy(self) -> bool:
        """Is an append of this process on its way to the database?"""
        return any(self._under_way.values())

    def barrier(self) -> None:
        """A commit of its own, behind what was read. Raises StoreUnavailable: no standby takes it."""
        if self._faults.is_ahead:
            raise StoreUnavailable("the barrier is not committed")

    def check(self) -> None:
        """Raises StoreUnavailable when nothing gets through."""
        if self.is_severed or self.is_cut or self._faults.is_down or self._faults.is_ahead:
            raise StoreUnavailable("no connection")

    def send_hint(self, deliver: Callable[[], None]) -> None:
        """A hint goes out, and may be lost."""
        faults = self._faults
        if self.is_severed or self.is_cut or faults.is_down or faults.is_ahead:
            return
        if self._rng.random() < faults.lost_hint:
            self.trace.fault(self.process.name, "hint_lost")
            return
        if self._rng.random() < faults.double_hint:
            self.trace.fault(self.process.name, "hint_twice")
            self._later(self._latency(), deliver)
        if self._rng.random() < faults.late_hint:
            self.trace.fault(self.process.name, "hint_late")
            self._later(self._rng.random() * 0.7, deliver)
            return
        self._later(self._latency(), deliver)

    # -- within ------

    def _later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(delay_s, callback, *args, context=self._server)

    def _fate(self, name: str) -> str:
        faults, draw = self._faults, self._rng.random()
        if draw >= faults.worst and not self.is_cut and not faults.is_hurt:
            return "answered"
        if self.is_cut or faults.is_down or (faults.is_ahead and name != "resolve"):
            return "lost"
        if faults.is_stalled:
            return "lost_reply" if name == "append" else "lost"
        for kind, share in (("lost", faults.lost), ("lost_reply", faults.lost_reply), ("late", faults.late)):
            if draw < share:
                return "lost_reply" if kind == "late" and name in NEVER_LATE else kind
            draw -= share
        return "answered"

    def _latency(self) -> float:
        """Seconds one way: mostly a millisecond, sometimes long enough to be overtaken."""
        if self._faults.slow and self._rng.random() < self._faults.slow:
            self.trace.faults["slow"] = self.trace.faults.get("slow", 0) + 1
            return 0.02 + self._rng.random() * 0.6
        return 0.0001 + self._rng.random() * 0.002

    def _serve(self, reply: asyncio.Future[T], what: str, operation: Callable[[], T], fate: str, back: float) -> None:
        """At the database: carry the statement out, and send its reply."""
        try:
            result = operation()
        except PointsmanError as error:
            if self.trace.is_on:
                self.trace.say(self.process.name, f"{what} -> {error.code}")
            self._later(back, _refuse, reply, error)
            return
        if self.trace.is_on:
            self.trace.say(self.process.name, f"{what} -> {_shown(result)}")
        if fate == "answered" and (self.is_cut or self._faults.is_down or self._faults.is_stalled):
            self.trace.fault(self.process.name, "lost_reply", what)
            fate = "lost_reply"
        if fate == "lost_reply":
            self._later(back, _fail, reply, "no reply")
        elif fate == "answered":
            self._later(back, _answer, reply, result)


def _answer(reply: asyncio.Future[Any], result: Any) -> None:
    if not reply.done():
        reply.set_result(result)


def _fail(reply: asyncio.Future[Any], why: str) -> None:
    _refuse(reply, StoreUnavailable(why))


def _refuse(reply: asyncio.Future[Any], error: PointsmanError) -> None:
    if not reply.done():
        reply.set_exception(error)


def _shown(result: Any) -> str:
    if isinstance(result, list):
        return "[" + ", ".join(_shown(item) for item in result[:8]) + "]"
    if hasattr(result, "outcome"):
        return str(result.outcome.value)
    if hasattr(result, "epoch") and hasattr(result, "id"):
        return f"{result.id}@{result.epoch}"
    return str(result)[:80] if isinstance(result, str | int | bool | tuple) else type(result).__name__
