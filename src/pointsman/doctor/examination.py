"""One look at a store: all questions, one after the other, the findings as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from pointsman.doctor import heads
from pointsman.doctor.findings import Counts, Finding
from pointsman.doctor.states import states
from pointsman.doctor.streams import heads as pages
from pointsman.doctor.streams import look_at_page
from pointsman.kernel.errors import UnknownRun
from pointsman.ports.store import Store


async def examine(store: Store, counts: Counts, runs: Sequence[str] | None = None) -> AsyncIterator[Finding]:
    """Everything that is wrong with a store, or with some of its runs.

    Raises:
        UnknownRun: one of `runs` does not exist. StoreUnavailable.
    """
    named = None
    if runs is not None:
        named = await store.log.heads(list(runs))
        for run in runs:
            if run not in named:
                raise UnknownRun(f"no run has the id {run!r}")
    async for page in pages(store.log, runs):
        with_state: set[str] = set()
        for finding in await look_at_page(store.log, page, counts, with_state):
            yield finding
        for finding in await states(store, page, with_state):
            yield finding
        for finding in await heads.held_back(store, page):
            yield finding
    found = [*await heads.mail(store, runs), *await heads.owners(store, runs), *await heads.stranded(store, named)]
    if runs is None:
        found += [*await heads.rows(store), *await heads.database(store)]
    for finding in found:
        yield finding
    for name, count in sorted(counts.old.items()):
        yield Finding(
            "log", "notice", f"{count} events are {name}, an older version: they are upcast when they are read, and "
            "nothing is rewritten",
        )  # fmt: skip
