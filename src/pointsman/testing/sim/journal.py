"""What agents do outside the engine, noted as it happens: every attempt that begins, every effect it has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import NamedTuple

from pointsman.agents.context import Context


class Invocation(NamedTuple):
    """One start of an agent.

    Attributes:
        position: how many events the database held at that moment.
        was_held: its process had been stopped between the decision and now.
        epoch_now: the run's epoch in the database at that moment.
        at_worker: by a worker, which was handed it a while ago.
    """

    run: str
    call: str
    attempt: int
    key: str
    epoch: int
    node: str
    at_s: float
    position: int
    was_held: bool
    epoch_now: int
    agent: str = ""
    at_worker: bool = False


class Shift:
    """One attempt at a worker.

    Attributes:
        made: its begin. ended_at: virtual seconds; infinite while it goes on.
        output: what came of it; None: nothing, or a failure.
    """

    __slots__ = ("ended_at", "made", "output")

    def __init__(self, made: Invocation, ended_at: float = inf, output: bytes | None = None) -> None:
        self.made = made
        self.ended_at = ended_at
        self.output = output

    def end(self, at_s: float) -> None:
        """It was made to its end, or given up, or its process died: what was first."""
        self.ended_at = min(self.ended_at, at_s)


class Effect(NamedTuple):
    """Something that an agent did to the world outside (`effect`). `key`: under which idempotency key, if any."""

    name: str
    key: str | None
    by: Invocation


class Journal:
    """What the agents of one schedule note, and the chance that they follow."""

    def __init__(
        self,
        rng: random.Random,
        invocation: Callable[[Context, str, bytes], Invocation],
        said: Callable[[Effect], None],
        poison: Callable[[str], None],
    ) -> None:
        self.rng = rng
        self.invocations: list[Invocation] = []
        self.effects: list[Effect] = []
        self.laid_out: list[Invocation] = []
        """What coordinators laid out for workers, as if they began it themselves."""
        self.shifts: list[Shift] = []
        self._invocation = invocation
        self._said = said
        self.poison = poison
        """(run): end the process that drives it, unless its code is mended; for the body of a workflow."""

    def begins(self, context: Context, agent: str, data: bytes) -> None:
        """An attempt begins, in the task that calls this."""
        made = self._invocation(context, agent, data)
        self.invocations.append(made)
        CURRENT.set(made)

    def lays_out(self, context: Context, agent: str, data: bytes) -> None:
        """A coordinator lays an attempt out for workers."""
        self.laid_out.append(self._invocation(context, agent, data))

    def begins_at_worker(self, context: Context, agent: str, data: bytes) -> Shift:
        """An attempt begins at a worker, in the task that calls this. By whom, and in which epoch, was decided before,
        where it was laid out."""
        self.begins(context, agent, data)
        made = self.invocations[-1] = self.invocations[-1]._replace(at_worker=True)
        CURRENT.set(made)
        shift = Shift(made)
        self.shifts.append(shift)
        return shift

    def note(self, seen: Effect) -> None:
        self.effects.append(seen)
        self._said(seen)

    async def work(self, *, seconds: float) -> int:
        """Take a while, and give a number that no other invocation has."""
        number = len(self.invocations)
        await asyncio.sleep(self.rng.random() * seconds)
        return number


JOURNAL: ContextVar[Journal] = ContextVar("journal")
CURRENT: ContextVar[Invocation] = ContextVar("invocation")


def effect(name: str, *, key: str | None = None) -> None:
    """Say that an agent has an effect outside: for the stand-ins of payment providers, mail servers and the like that
    a simulated app uses. Each effect must happen once for each call, and the simulator counts.

    Args:
        name: what happens, such as `"charge 12.50"`; an agent may have several effects.
        key: the idempotency key that the outside world is given; what comes twice under one key happens once.

    Raises:
        RuntimeError: no agent is at work in a simulation.
    """
    made = CURRENT.get(None)
    if made is None:
        raise RuntimeError(f"effect({name!r}): only an agent under `pointsman simulate` can note an effect")
    JOURNAL.get().note(Effect(name, key, made))
