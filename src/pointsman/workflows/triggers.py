"""Event-driven runs: a run begins with an event, agents emit further ones, and the runtime calls whoever subscribes.

An ordinary body over `run.call`. Agents never call each other: what one emits rides in its outcome, and triggers others
once that is in the log. That an agent refused or failed is an event too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from pointsman.kernel.errors import CallError, DeadEnd, LoopDetected, PointsmanError
from pointsman.kernel.guard import LoopGuard
from pointsman.kernel.run import Run
from pointsman.kernel.strands import Handle
from pointsman.kernel.values import encode, faithful

REFUSED, CRASHED, FAILED = "agent.refused", "agent.crashed", "run.failed"
TURNS_MAX = 100
REPEATS_MAX = 3
TOLD_BYTES_MAX = 2**31
"""What an event about a failure holds was within the app's limit already."""


@dataclass(frozen=True)
class EndEvent:
    """An event that the run ends with.

    Attributes:
        by: the agent that emitted it; empty: the run began with it.
    """

    event: str
    data: Any = None
    by: str = ""


class Emitted(msgspec.Struct, frozen=True):
    """An event of the run. `call`: in which `by` emitted it. `cause`: the event that triggered that call."""

    event: str
    data: bytes
    by: str = ""
    call: str = ""
    cause: Emitted | None = None


class Chain:
    """The events of one run, and what they trigger.

    Args:
        ends: events that the run may end with.
        turns_max: calls of agents in one run. repeats_max: so often an event may come with the same data in one chain
            of causes.
    """

    def __init__(self, run: Run, ends: Sequence[str], turns_max: int, repeats_max: int) -> None:
        self._run = run
        self._ends = ends
        self._repeats_max = repeats_max
        self._guard = LoopGuard(turns_max, None)
        self._counts: Counter[str] = Counter()
        self._under_way: dict[Handle[Any], tuple[str, Emitted]] = {}
        self._reached: list[EndEvent] = []
        self._failure: tuple[PointsmanError, bytes] | None = None

    async def follow(self, first: Emitted) -> list[EndEvent]:
        """Let the events take their course, until nothing is under way. Once the run is bound to fail, what is under
        way goes on to its end and nothing new begins: a redrive goes on from there, under the same keys.

        Returns: the end events, in the order in which they came.

        Raises:
            DeadEnd: an event that nobody subscribes to, or no end was reached. LoopDetected: see the class.
            CallError: of an agent that failed, where nobody subscribes to its failure.
        """
        self._happened(first)
        while self._under_way:
            await self._run.first(*self._under_way)  # type: ignore[unused-awaitable]  # it is done
            for handle in sorted((h for h in self._under_way if h.done), key=lambda handle: handle.order):
                self._ended(handle, *self._under_way.pop(handle))
        if self._ends and not self._reached:
            missing = DeadEnd(f"nothing is under way any more, and {' or '.join(self._ends)} was not emitted")
            self._failed(missing, None, "")
        if self._failure is not None:
            await self._tell_failed(self._failure[1])
            raise self._failure[0]
        return self._reached

    def _happened(self, emitted: Emitted, failure: PointsmanError | None = None) -> None:
        """Call who subscribes to it. `failure`: of the run, where nobody does."""
        if self._failure is not None:
            return  # begun now, it would be begun again by a redrive, under another key
        asked = f"event:{self._numbered(emitted.event)}"
        agents = self._run.subscribers(emitted.event, by=emitted.call, key=asked)
        if emitted.event in self._ends:
            self._reached.append(EndEvent(emitted.event, msgspec.json.decode(emitted.data), emitted.by))
        elif failure is not None and not agents:
            self._failed(failure, emitted.cause, emitted.by)
        elif not agents:
            who = emitted.by or "the run"
            nobody = DeadEnd(
                f"{who} emitted {emitted.event}, to which nobody subscribes, and which ends nothing", call=asked
            )
            self._failed(nobody, emitted, emitted.by)
        try:
            self._check_repeats(emitted)
            for agent in agents:
                self._guard.count(agent, emitted.data)
                self._under_way[self._start(agent, emitted)] = agent, emitted
        except LoopDetected as error:
            self._failed(error, emitted, emitted.by)

    def _check_repeats(self, emitted: Emitted) -> None:
        """Raises LoopDetected: its chain of causes goes round in a circle."""
        times, path, before = 1, [emitted.event], emitted.cause
        while before is not None:
            path += [before.event] if times == 1 else []
            times += before.event == emitted.event and before.data == emitted.data
            before = before.cause
        if times > self._repeats_max:
            shown = " → ".join(reversed(path))
            raise LoopDetected(f"{shown}: {times} times with the same data, and repeats_max is {self._repeats_max}")

    def _start(self, agent: str, emitted: Emitted) -> Handle[Any]:
        """The key says for which event the agent is called, so that it is once for each."""
        key = self._numbered(f"{emitted.event}/{agent}")
        return self._run.start(agent, msgspec.Raw(emitted.data), key=key)

    def _numbered(self, name: str) -> str:
        self._counts[name] += 1
        return f"{name}/{self._counts[name]}"

    def _ended(self, handle: Handle[Any], agent: str, cause: Emitted) -> None:
        """One that fails at what another's failure triggered fails the run: nobody is told of that."""
        error = handle.error
        if not isinstance(error, PointsmanError):
            for emission in handle.emitted:
                self._happened(Emitted(emission.event, bytes(emission.data), agent, handle.call, cause))
        elif cause.event in (REFUSED, CRASHED):
            self._failed(error, cause, agent)
        else:
            event = REFUSED if _kind(error) == "refused" else CRASHED
            self._happened(Emitted(event, _told(error, cause, agent), agent, handle.call, cause), error)

    def _failed(self, error: PointsmanError, cause: Emitted | None, agent: str) -> None:
        """The first failure is the run's."""
        self._failure = self._failure or (error, _told(error, cause, agent))

    async def _tell_failed(self, data: bytes) -> None:
        """What its subscribers emit triggers nobody: the run is over."""
        handles = [self._start(agent, Emitted(FAILED, data)) for agent in self._run.subscribers(FAILED)]
        if handles:
            await self._run.gather(*handles, return_errors=True)


def _kind(error: PointsmanError) -> str:
    return error.kind if isinstance(error, CallError) else error.code


def _told(error: PointsmanError, cause: Emitted | None, agent: str) -> bytes:
    """The data of an event about a failure: whose, of what kind, and at which event."""
    at = (cause.event, msgspec.Raw(cause.data)) if cause is not None else ("", None)
    said = {"agent": agent, "kind": _kind(error), "message": faithful(error), "event": at[0], "data": at[1]}
    return encode(said, bytes_max=TOLD_BYTES_MAX)


def event_driven(
    start: str, ends: Sequence[str], turns_max: int, repeats_max: int
) -> Callable[[Run, Any], Coroutine[Any, Any, list[EndEvent]]]:
    """The body of runs that begin with this event."""

    async def follow(run: Run, data: Any) -> list[EndEvent]:
        first = Emitted(start, encode(data, bytes_max=TOLD_BYTES_MAX))
        return await Chain(run, ends, turns_max, repeats_max).follow(first)

    return follow
