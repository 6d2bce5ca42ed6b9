"""Tranches of incarnations that have ended: settled by one of the living, from the runs' logs.

An incarnation that has ended and owns no run any more can append nothing, so what it reserved is known for good. What
each of those attempts used up is what the event says that ended it; it counts in full where nobody knows: the next
owner reserved again, or the run went on or ended without a result. A reservation whose call nobody has touched yet is
waited for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from pointsman.coordinator.budgets.ledger import Ledger
from pointsman.kernel import events as ev
from pointsman.kernel.events import Recorded
from pointsman.kernel.policy import budget as ledgers
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.policy.budget import LedgerState, attempt_of
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import EventLog, was_cut
from pointsman.ports.store import Store

NEXT_IN_LINE_S = 2.0
"""The first of the living settles at once; each after it waits so much longer, in case it does not."""
PAGE, PAGE_BYTES = 1_000, 4_000_000

logger = logging.getLogger("pointsman.budgets")

_RESULTS = (ev.CallCompleted, ev.CallFailed, ev.AttemptFailed)
_ENDS = (*_RESULTS, ev.CallSkipped, ev.CallCancelled, ev.HumanTaskAnswered, ev.HumanTaskExpired, *ev.TERMINAL)
_READ = frozenset(kind.__name__ for kind in (ev.CallReserved, *_ENDS))


class Recovery:
    """Settles, for one incarnation, the tranches of those that have ended. Call `sweep` at intervals."""

    def __init__(self, store: Store, incarnation: int) -> None:
        self._store = store
        self._incarnation = incarnation
        self._holders: dict[str, dict[str, int]] = {}
        """By scope: which tranche is whose, where others hold any."""
        self._dead_since: dict[int, float] = {}

    def saw(self, scope: str, state: LedgerState) -> None:
        """A ledger has changed."""
        others = {
            name: tranche.incarnation
            for name, tranche in state.tranches.items()
            if tranche.incarnation != self._incarnation
        }
        if others:
            self._holders[scope] = others
        else:
            self._holders.pop(scope, None)

    async def sweep(self) -> None:
        """Settle what can be settled. Raises StoreUnavailable."""
        holders = {incarnation for tranches in self._holders.values() for incarnation in tranches.values()}
        if not holders:
            return
        # Read after the ledgers: whoever holds a tranche there was registered before, and if it is missing, it has
        # ended.
        living = [member.incarnation for member in await self._store.liveness.members()]
        if self._incarnation not in living:
            return
        now, place = self._store.clock.monotonic(), sorted(living).index(self._incarnation)
        dead = holders.difference(living)
        self._dead_since = {incarnation: self._dead_since.get(incarnation, now) for incarnation in sorted(dead)}
        for incarnation, since in self._dead_since.items():
            if now - since >= place * NEXT_IN_LINE_S and not await self._store.ownership.owned(incarnation):
                await self._settle_all(incarnation)

    async def _settle_all(self, incarnation: int) -> None:
        for scope, tranches in list(self._holders.items()):
            for tranche in [name for name, holder in tranches.items() if holder == incarnation]:
                await self._settle(scope, tranche)

    async def _settle(self, scope: str, tranche: str) -> None:
        spent, pending = await self._truth_of(tranche)
        ledger = Ledger(scope, self._store.system, self._store.clock)

        def decide(state: LedgerState, _: int) -> list[ev.Event]:
            event: ev.Event | None
            if pending:
                event = ledgers.reduce(state, tranche, spent + pending)
            else:
                event = ledgers.settle(state, tranche, spent)
            return [] if event is None else [event]

        await ledger.write(decide)
        self.saw(scope, ledger.state)
        if not pending:
            await self._store.reservations.forget(tranche)
            logger.info("budget %s: tranche %s of an ended incarnation is settled: %s", scope, tranche, spent)

    async def _truth_of(self, tranche: str) -> tuple[Amount, Amount]:
        """What was spent from it, and what is reserved and has no end yet."""
        sequences: dict[str, list[int]] = {}
        for row in await self._store.reservations.of(tranche):
            sequences.setdefault(row.run, []).append(row.sequence)
        spent = pending = NOTHING
        for run, reserved_at in sequences.items():
            rows = await _read(self._store.log, run, after=min(reserved_at) - 1)
            ended, is_open = ends_of(rows, reserved_at)
            spent = sum(ended, spent)
            pending = sum(is_open, pending)
        return spent, pending


def ends_of(rows: Sequence[Recorded], reserved_at: Sequence[int]) -> tuple[list[Amount], list[Amount]]:
    """Of the CallReserved events at these sequences of a run: what each attempt that ended used up, and what is still
    set aside for those that did not. As `RunState.settle` counts it."""
    wanted = set(reserved_at)
    is_open: dict[str, Amount] = {}
    ended: list[Amount] = []
    for sequence, event in _relevant(rows):
        calls = list(is_open) if isinstance(event, ev.TERMINAL) else [event.call]
        for call in calls:
            reserved = is_open.pop(call, None)
            if reserved is not None:
                spent = event.spent if isinstance(event, _RESULTS) else None
                ended.append(reserved if spent is None else attempt_of(spent))
        if isinstance(event, ev.CallReserved) and sequence in wanted:
            is_open[event.call] = attempt_of(event.amount)
    return ended, list(is_open.values())


def _relevant(rows: Sequence[Recorded]) -> Iterator[tuple[int, Any]]:
    return ((row.sequence, read_event(row)) for row in rows if row.type in _READ)


async def _read(log: EventLog, run: str, *, after: int) -> list[Recorded]:
    rows: list[Recorded] = []
    while True:
        page = await log.read(run, after=after + len(rows), limit=PAGE, bytes_max=PAGE_BYTES)
        rows += page
        if not was_cut(page, PAGE, PAGE_BYTES):
            return rows
