"""The suite that every store must pass: the same cases for each, and none is skipped.

A case is an async function of a `Harness`, and needs no test framework. A store joins with its own harness:

    @pytest.mark.parametrize("case", CASES, ids=case_name)
    async def test_conformance(case: Case) -> None:
        await run_case(case, MyHarness())
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pointsman.testing.conformance import (
    append,
    board,
    children,
    crossing,
    feed,
    fencing,
    generations,
    human_tasks,
    inspection,
    lifecycle,
    listing,
    liveness,
    mailbox,
    notices,
    ownership,
    races,
    reading,
    reservations,
    retention,
    states,
    system_log,
    trials,
    values,
    wakeup,
)
from pointsman.testing.conformance.harness import Harness

Case = Callable[[Harness], Awaitable[None]]

CASES: tuple[Case, ...] = (
    *append.CASES,
    *reading.CASES,
    *fencing.CASES,
    *mailbox.CASES,
    *children.CASES,
    *ownership.CASES,
    *trials.CASES,
    *liveness.CASES,
    *feed.CASES,
    *listing.CASES,
    *values.CASES,
    *races.CASES,
    *crossing.CASES,
    *wakeup.CASES,
    *system_log.CASES,
    *board.CASES,
    *human_tasks.CASES,
    *notices.CASES,
    *reservations.CASES,
    *retention.CASES,
    *states.CASES,
    *inspection.CASES,
    *lifecycle.CASES,
    *generations.CASES,
)


def case_name(case: Case) -> str:
    """`theme.case`, as in `fencing.a_stale_epoch_is_fenced`."""
    return f"{case.__module__.rpartition('.')[2]}.{getattr(case, '__name__', 'case')}"


async def run_case(case: Case, harness: Harness) -> None:
    """One case on a fresh harness, whose stores are closed whatever happens."""
    try:
        await case(harness)
    finally:
        await harness.close()


__all__ = ["CASES", "Case", "Harness", "case_name", "run_case"]
