"""The purse: what this coordinator holds of one shared budget. It reserves from its tranches, asks for more, and gives
back what is idle.

Reserving and settling only touch memory. One task at a time writes to the ledger, and exists only while there is
something to write: grants that calls wait for, tranches that are over, and amounts that others may need more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

import msgspec

from pointsman.coordinator.budgets.held import HeldTranche
from pointsman.coordinator.budgets.ledger import Ledger
from pointsman.kernel.events import Event, Failure
from pointsman.kernel.policy import budget as ledgers
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS, NOTHING, Amount, Budget
from pointsman.kernel.policy.budget import DECLARED, LedgerState
from pointsman.ports.clock import Clock

SHARE = 20
"""A tranche is this part of the limit, unless more is needed at once or little is free."""
IDLE_S = 0.5
"""Without use for so long, a tranche goes back. With the tick of the purses that is within a second."""
ASK_AGAIN_S = 0.1
PATIENCE_S = 1.5
"""How long a call waits for what others hold and may give back, before its budget is said to be exceeded."""
REFUSAL_S = 0.5
"""How long a refusal answers further calls without asking the ledger."""

logger = logging.getLogger("pointsman.budgets")

Ready = Callable[[], None]


class PlannedWrite(msgspec.Struct):
    """The intended effect of one write to the ledger. It is tried again, unchanged, until the stream has it."""

    tranche: str
    over: Sequence[HeldTranche]
    reduced: Sequence[tuple[str, Amount]]
    asked: Sequence[Amount]
    wish: Amount
    declares: bool


class Purse:
    """Reserves from the tranches that this coordinator holds. One incarnation's, of one budget.

    Attributes:
        declared: the budget as the code has it; an operator's wins over it. None: the code has none.
        used_at: when somebody last reserved here, monotonic seconds.
    """

    def __init__(
        self, ledger: Ledger, declared: Budget | None, incarnation: int, clock: Clock, tranche_ids: Iterator[str],
        on_held: Callable[[Purse, HeldTranche], None], on_settled: Callable[[HeldTranche], None],
    ) -> None:  # fmt: skip
        self.ledger = ledger
        self.declared = declared
        self.used_at = clock.monotonic()
        self._incarnation = incarnation
        self._clock = clock
        self._tranche_ids = tranche_ids
        self._on_held = on_held
        self._on_settled = on_settled
        self._budget = declared or Budget()
        self._is_declared = declared is None
        self._held: dict[str, HeldTranche] = {}
        self._waiting: dict[tuple[Ready, Amount], None] = {}
        self._short_since: float | None = None
        self._refused: tuple[Amount, float] | None = None
        """What was free, and until when (monotonic seconds) that is the answer."""
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self.look()

    @property
    def is_limit(self) -> bool:
        return ledgers.is_limit(self._budget)

    @property
    def is_idle(self) -> bool:
        return not (self._held or self._waiting or self._task)

    # -- in memory --------------------------------------------------------------------------------------------------

    def find(self, amount: Amount) -> HeldTranche | Failure | None:
        """A tranche that can hold the amount; or the failure that refuses it; or None: ask for a tranche."""
        now, now_ms = self._clock.monotonic(), self._clock.now()
        self.used_at = now
        for held in self._held.values():
            if held.can_hold(amount, now_ms):
                return held
        if self._refused is not None and now < self._refused[1] and not self._need(amount).fits(self._refused[0]):
            return self._refusal(amount, self._refused[0], now_ms)
        return None

    def ask(self, amount: Amount, ready: Ready) -> None:
        """`ready` is called once, when it is worth trying `find` again."""
        if self._task is None and (self._refused is None or self._clock.monotonic() >= self._refused[1]):
            self._short_since = None
        self._waiting[ready, amount] = None
        self._write_soon()

    def declare(self, budget: Budget) -> None:
        """The code says so from now on."""
        if budget != self.declared:
            self.declared, self._is_declared = budget, False
            self._write_soon()

    def look(self) -> None:
        """The ledger may have changed. A new limit is for new tranches; nothing more is taken from the old ones."""
        state = self.ledger.state
        if state.by and state.budget != self._budget:
            self._budget = state.budget
            self._refused = None
            for held in self._held.values():
                held.is_retired = True
            self._wake_all()

    def tick(self) -> None:
        """Give back what is idle."""
        if self._task is None and any(self._goes_back(held, is_short=False) for held in self._held.values()):
            self._write_soon()

    async def stop(self) -> None:
        """Nothing is written any more, whoever still asks. What is held is settled by the living, from the runs'
        logs."""
        self._is_stopped = True
        self._waiting.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- writing ----------------------------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if self._task is None and not self._is_stopped:
            self._task = asyncio.create_task(self._work(), name=f"budget {self.ledger.scope}")

    async def _work(self) -> None:
        """Write until there is nothing left to write."""
        try:
            while (plan := self._plan()) is not None:
                await self._carry_out(plan)
                if self._waiting and self._short_since is not None:
                    await asyncio.sleep(ASK_AGAIN_S)
        except Exception:
            logger.exception("budget %s: those who wait for it ask again", self.ledger.scope)
            await asyncio.sleep(ASK_AGAIN_S)
        finally:
            self._task = None
            self._wake_all()

    def _plan(self) -> PlannedWrite | None:
        is_short = bool(self._waiting) and self._short_since is not None
        over: list[HeldTranche] = []
        reduced: list[tuple[str, Amount]] = []
        for held in self._held.values():
            if not self._goes_back(held, is_short=is_short):
                continue
            if not held.pending:
                held.is_retired = True
                over.append(held)
            elif held.give_back():
                reduced.append((held.id, held.amount))
        declares = not self._is_declared
        if not (over or reduced or self._waiting or declares):
            return None
        asked = [amount for _, amount in self._waiting]
        wish = sum(asked, NOTHING)
        return PlannedWrite(next(self._tranche_ids), over, reduced, asked, wish, declares)

    def _goes_back(self, held: HeldTranche, *, is_short: bool) -> bool:
        """Is there something in it that this coordinator does not need?"""
        if held.is_over(self._clock.now()):
            held.is_retired = True
        if not (held.is_retired or is_short or self._clock.monotonic() - held.touched >= IDLE_S):
            return False
        return not held.pending or held.left.usd_micros > 0 or held.left.tokens > 0 or held.left.calls > 0

    async def _carry_out(self, plan: PlannedWrite) -> None:
        await self.ledger.write(lambda state, now_ms: self._decide(plan, state, now_ms))
        if plan.declares:
            self._is_declared = True
        self.look()
        for held in plan.over:
            del self._held[held.id]
            self._on_settled(held)
        state = self.ledger.state
        granted = state.tranches.get(plan.tranche)
        if granted is not None:
            until_ms = ledgers.window_end_ms(state.budget, granted.window)
            held = HeldTranche(plan.tranche, granted.amount, state.budget, until_ms, self._clock.monotonic())
            self._held[held.id] = held
            self._on_held(self, held)
            self._short_since = self._refused = None
            self._wake_all()
        elif plan.asked:
            self._fell_short(plan, state)

    def _decide(self, plan: PlannedWrite, state: LedgerState, now_ms: int) -> list[Event]:
        events: list[Event] = []

        def take(event: Event | None) -> None:
            nonlocal state
            if event is not None:
                state = ledgers.evolve(state, event)
                events.append(event)

        is_mine = state.by in ("", DECLARED)  # an operator's order stands above it
        if plan.declares and self.declared is not None and is_mine and (not state.by or state.budget != self.declared):
            take(ledgers.set_budget(state, self.declared, DECLARED, now_ms))
        for held in plan.over:
            take(ledgers.settle(state, held.id, held.spent))
        for tranche, amount in plan.reduced:
            take(ledgers.reduce(state, tranche, amount))
        if plan.tranche not in state.tranches:
            wish = _larger(plan.wish, _share(state.budget))
            for least in plan.asked:
                result = ledgers.grant(state, plan.tranche, self._incarnation, least, wish, now_ms)
                if not isinstance(result, Amount):
                    take(result)
                    break
        return events

    def _fell_short(self, plan: PlannedWrite, state: LedgerState) -> None:
        """Not enough is free: refuse what would not fit if everybody gave everything back; else wait for that, a
        while."""
        now, now_ms = self._clock.monotonic(), self._clock.now()
        if self._short_since is None:
            self._short_since = now
        at_best = state.budget.limit - state.settled_at(now_ms)
        if any(not self._need(amount).fits(at_best) for amount in plan.asked):
            self._refuse(at_best)
        elif now - self._short_since >= PATIENCE_S:
            self._refuse(state.free_at(now_ms))

    # -- answers ----------------------------------------------------------------------------------------------------

    def _need(self, amount: Amount) -> Amount:
        return self._budget.limited(amount)

    def _refuse(self, free: Amount) -> None:
        self._refused = (free, self._clock.monotonic() + REFUSAL_S)
        self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for ready, _ in waiting:
            ready()

    def _refusal(self, amount: Amount, free: Amount, now_ms: int) -> Failure:
        budget = self._budget
        end_ms = ledgers.window_end_ms(budget, self.ledger.state.window_at(now_ms))
        wait_ms = None if end_ms is None else max(end_ms - now_ms, 0)
        when = "it has no window: raise it" if wait_ms is None else f"its window ends in {wait_ms / 1000:.0f} s"
        return Failure(
            "budget_exceeded",
            f"budget {self.ledger.scope}: the attempt may cost {_shown(budget, amount)}, free {_shown(budget, free)}, "
            f"limit {_shown(budget, budget.limit)}; {when}",
            retryable=False,
            retry_after_ms=wait_ms,
        )


def _share(budget: Budget) -> Amount:
    limit = budget.limit
    return Amount(limit.usd_micros // SHARE, limit.tokens // SHARE, limit.calls // SHARE)


def _larger(one: Amount, other: Amount) -> Amount:
    return Amount(max(one.usd_micros, other.usd_micros), max(one.tokens, other.tokens), max(one.calls, other.calls))


def _shown(budget: Budget, amount: Amount) -> str:
    """What the budget limits, for people."""
    parts = []
    if budget.usd is not None:
        parts.append(f"{min(amount.usd_micros, COUNT_MAX) / MICROS:.6g} USD")
    if budget.tokens is not None:
        parts.append(f"{amount.tokens} tokens")
    if budget.calls is not None:
        parts.append(f"{amount.calls} calls")
    return ", ".join(parts)
