"""Fan-out: one agent or workflow, many inputs at the same time, and what came of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pointsman.kernel.errors import CallError, FanOutFailed, InvalidValue, PointsmanError
from pointsman.kernel.run import Run
from pointsman.kernel.strands import Handle


@dataclass(frozen=True)
class FannedOut:
    """What came of each input.

    Attributes:
        outcomes: in the order of the inputs; an error stands in the place of a result.
    """

    outcomes: list[Any]

    @property
    def results(self) -> list[Any]:
        """Of those that gave one, in the order of their inputs."""
        return [outcome for outcome in self.outcomes if not isinstance(outcome, PointsmanError)]

    @property
    def errors(self) -> dict[int, PointsmanError]:
        """Of those that failed, by the place of their input."""
        return {place: outcome for place, outcome in enumerate(self.outcomes) if isinstance(outcome, PointsmanError)}


async def fan_out(
    run: Run, target: Any, inputs: Sequence[Any], *, at_once: int | None = None, at_least: int = 1, **options: Any
) -> FannedOut:
    """Call `target` once for each of `inputs`, and wait for all of them. One that fails does not stop the others.

    Args:
        inputs: each is the argument of one call; a tuple is its arguments.
        at_once: so many calls are under way at the same time, at most. None: all.
        at_least: so many must give a result. 0: whatever comes is enough.
        options: of each call, as of `run.call`: fallback, person, default, priority, budget.

    Raises:
        FanOutFailed: fewer than `at_least` gave a result. InvalidValue: at_once under 1, at_least over the inputs.
    """
    if at_once is not None and at_once < 1:
        raise InvalidValue(f"fan_out(at_once={at_once}): 1 or more, or None for all at the same time")
    if not 0 <= at_least <= max(len(inputs), 1):
        raise InvalidValue(f"fan_out(at_least={at_least}): from 0 to the {len(inputs)} inputs")
    handles: list[Handle[Any]] = []
    under_way: list[Handle[Any]] = []
    for given in inputs:
        while at_once is not None and len(under_way) >= at_once:
            await run.first(*under_way)  # type: ignore[unused-awaitable]  # it is done
            under_way = [handle for handle in under_way if not handle.done]
        arguments = given if isinstance(given, tuple) else (given,)
        handles.append(run.start(target, *arguments, **options))
        under_way.append(handles[-1])
    fanned = FannedOut(await run.gather(*handles, return_errors=True))
    if len(fanned.results) < min(at_least, len(inputs)):
        raise _failed(fanned, at_least)
    return fanned


def _failed(fanned: FannedOut, at_least: int) -> FanOutFailed:
    place, first = next(iter(fanned.errors.items()))
    kind = first.kind if isinstance(first, CallError) else first.code
    return FanOutFailed(
        kind, f"{len(fanned.results)} of {len(fanned.outcomes)} gave a result, {at_least} must; input {place}: {first}"
    )
