"""The simulator's own scenario: an app that uses everything, and operators who meddle."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from pointsman.agents.directory import AgentDirectory
from pointsman.kernel.policy.amounts import Budget
from pointsman.testing.sim.scenario import Invariant, Start
from pointsman.testing.sim.shape import Shape
from pointsman.testing.sim.workload import changing
from pointsman.testing.sim.workload import fetching as fetching
from pointsman.testing.sim.workload import workflows as workflows
from pointsman.testing.sim.workload.agents import app

NAMES = (
    "chain", "fan", "branches", "waiter", "parent", "careful", "chooser", "nap", "spending", "spending", "crowd",
    "crowd", "asking", "effects", "effects", "talk", "circling", "thrifty", "picky", "clumsy",
    "hopeful", "hopeful",
    "tallying", "consulting", "consulting",
    "fetching",
)  # fmt: skip
RELEASES = [changing.directory_of(release) for release in changing.RELEASES]
CHANGED = 0.06
"""The share of schedules in which other code is deployed."""
POISONED = 0.08
"""The share of schedules in which a run ends its coordinators."""


class Own:
    """See `Scenario`."""

    app = app
    delay_s = 0.0
    operators = True
    ages = False
    command = "python -m pointsman.testing.sim"
    invariants: Sequence[Invariant] = ()

    def starts(self, rng: random.Random, shape: Shape) -> list[Start]:
        poison = [Start("poisoned", b"1", b"2")] if rng.random() < POISONED else []
        changed = shape.runs - 1 if rng.random() < CHANGED else 0
        names = [rng.choice(changing.NAMES if number < changed else NAMES) for number in range(shape.runs)]
        return [*(self._start(rng, name) for name in names), *poison]

    def _start(self, rng: random.Random, workflow: str) -> Start:
        size = rng.randrange(1, 4)
        is_waiter = workflow == "waiter"
        return Start(
            workflow, str(size).encode(), str(size + 1).encode(),
            signals=(("go", b'"on"'), ("go", b'"again"')) if is_waiter else (),
            last=(("done", b'"over"'),) if is_waiter else (),
            budget=Budget(usd=1.0, tokens=10_000, calls=50) if rng.random() < 0.2 else None,
        )  # fmt: skip

    def releases(self, starts: Sequence[Start]) -> Sequence[Callable[[], AgentDirectory]]:
        return RELEASES if any(start.workflow in changing.NAMES for start in starts) else RELEASES[-1:]

    def needs_workers(self, starts: Sequence[Start]) -> bool:
        return any(start.workflow == "fetching" for start in starts)

    def answer(self, rng: random.Random, question: str) -> Any:
        if question.startswith("how many"):
            return rng.choice((1, 7, 7, None))
        return rng.choice(("a person says so", "a person says otherwise", None))


class Fetching(Own):
    """Only runs whose calls workers fetch."""

    def starts(self, rng: random.Random, shape: Shape) -> list[Start]:
        return [Start("fetching", str(rng.randrange(1, 4)).encode(), b"9") for _ in range(shape.runs)]


class Changing(Own):
    """Only runs whose code changes."""

    def starts(self, rng: random.Random, shape: Shape) -> list[Start]:
        return [self._start(rng, rng.choice(changing.NAMES)) for _ in range(shape.runs)]


OWN = Own()
FETCHING = Fetching()
