"""What runs in a schedule: an app, the runs that clients start of it, and what must hold beyond the engine's rules."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pointsman.agents.card import PULL
from pointsman.agents.directory import AgentDirectory
from pointsman.app import App
from pointsman.kernel.policy.amounts import Budget
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.shape import Shape


@dataclass(frozen=True)
class Start:
    """A run that clients start, and what else they do to it.

    Attributes:
        input, other: JSON. Some of those who start it again give the other one, and must be told of the conflict.
        signals: name and payload (JSON), sent while it runs. last: sent when everything is well again.
        cancelled: how probable it is that somebody cancels it.
    """

    workflow: str
    input: bytes
    other: bytes
    signals: tuple[tuple[str, bytes], ...] = ()
    last: tuple[tuple[str, bytes], ...] = ()
    cancelled: float = 0.15
    budget: Budget | None = None
    tenant: str = "default"


Invariant = Callable[[Evidence], Iterable[str]]


class Scenario(Protocol):
    """The app, the runs and the rules of a simulation.

    Attributes:
        delay_s: see `SimLocal`.
        operators: do people meddle with agents and budgets? For the simulator's own app, which has those.
        ages: in every schedule nine days pass at the end, not only in some.
        command: what to type to run this again, without the seed.
    """

    app: App
    delay_s: float
    operators: bool
    ages: bool
    command: str
    invariants: Sequence[Invariant]

    def starts(self, rng: random.Random, shape: Shape) -> list[Start]: ...

    def releases(self, starts: Sequence[Start]) -> Sequence[Callable[[], AgentDirectory]]:
        """Of the code that is deployed, one after the other, where these runs are started; one at least. Each gives
        the directory of a coordinator."""
        ...

    def needs_workers(self, starts: Sequence[Start]) -> bool:
        """Do these runs, of `starts`, call agents whose calls workers fetch?"""
        ...

    def answer(self, rng: random.Random, question: str) -> Any:
        """What a person says to a question: any JSON; None: he refuses."""
        ...


@dataclass
class Given:
    """A scenario made of plain data: a user's app, and inputs for its workflows."""

    app: App
    inputs: Sequence[Start]
    answers: Mapping[str, Any] = field(default_factory=dict)
    invariants: Sequence[Invariant] = ()
    command: str = ""
    delay_s: float = 0.3
    operators: bool = False
    ages: bool = False

    def starts(self, rng: random.Random, shape: Shape) -> list[Start]:
        return [rng.choice(self.inputs) for _ in range(shape.runs)]

    def releases(self, starts: Sequence[Start]) -> Sequence[Callable[[], AgentDirectory]]:
        del starts
        return (self.app.new_directory,)

    def needs_workers(self, starts: Sequence[Start]) -> bool:
        del starts
        return any(agent.transport == PULL for agent in self.app.directory.agents())

    def answer(self, rng: random.Random, question: str) -> Any:
        del rng
        return self.answers.get(question)
