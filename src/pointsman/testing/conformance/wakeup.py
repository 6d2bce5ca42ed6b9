"""Wake-up: a hint reaches the others, soon; it never blocks and never fails."""

from __future__ import annotations

import asyncio

from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import coordinators, soon


async def a_hint_reaches_the_others(harness: Harness) -> None:
    a, b, c = await coordinators(harness, 3)
    waiting = [asyncio.create_task(_hints(other.store, {"run-1", "run-2"})) for other in (b, c)]
    a.store.wakeup.hint(["run-1", "run-2"])
    await soon(asyncio.gather(*waiting))


async def a_hint_before_the_wait_counts(harness: Harness) -> None:
    """It is kept while its receiver does something else."""
    a, b = await coordinators(harness, 2)
    a.store.wakeup.hint(["early"])
    await soon(_hints(b.store, {"early"}))


async def hints_keep_their_names(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    names = {"it's", 'a "quoted" one', "a,b;c", "日本語 🚂", "back\\slash", "line\nbreak", " "}
    a.store.wakeup.hint(sorted(names))
    await soon(_hints(b.store, names))


async def any_number_of_hints_is_no_error(harness: Harness) -> None:
    """More than one message can carry, and longer: some may be lost, the store goes on."""
    a, b = await coordinators(harness, 2)
    a.store.wakeup.hint([])
    a.store.wakeup.hint([f"run-{number:05}-{'x' * 60}" for number in range(3_000)])
    a.store.wakeup.hint(["y" * 20_000])
    assert await soon(b.store.wakeup.next_hints())
    a.store.wakeup.hint(["after"])
    await soon(_hints(b.store, {"after"}))


async def a_closed_store_hints_without_effect(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.store.close()
    a.store.wakeup.hint(["from the grave"])
    b.store.wakeup.hint(["to the grave"])


async def _hints(store: Store, wanted: set[str]) -> None:
    missing = set(wanted)
    while missing:
        missing -= set(await store.wakeup.next_hints())


CASES = (
    a_hint_reaches_the_others,
    a_hint_before_the_wait_counts,
    hints_keep_their_names,
    any_number_of_hints_is_no_error,
    a_closed_store_hints_without_effect,
)
