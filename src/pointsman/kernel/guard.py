"""The loop guard: a run that calls the same agent with the same input again and again, or calls for ever, is stopped
before it costs more."""

from __future__ import annotations

from pointsman.kernel.errors import LoopDetected
from pointsman.kernel.values import digest


class LoopGuard:
    """Counts a run's calls, by what its body does alone, so that every replay counts the same.

    Args:
        turns_max: calls of agents in one run. repeats_max: calls of one agent with one input. None: not limited.
    """

    def __init__(self, turns_max: int | None, repeats_max: int | None) -> None:
        self._turns_max = turns_max
        self._repeats_max = repeats_max
        self._turns = 0
        self._seen: dict[str, int] = {}

    def count(self, target: str, data: bytes) -> None:
        """Raises LoopDetected: this call would be one too many."""
        if self._turns_max is not None:
            self._turns += 1
            if self._turns > self._turns_max:
                raise LoopDetected(f"the run has made {self._turns_max} calls, which is its turns_max")
        if self._repeats_max is not None:
            key = f"{target} {digest(data)}"
            seen = self._seen[key] = self._seen.get(key, 0) + 1
            if seen > self._repeats_max:
                raise LoopDetected(
                    f"agent {target!r} was called {self._repeats_max} times with the same input, which is repeats_max"
                )
