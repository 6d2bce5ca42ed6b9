"""The verbs on shared budgets, for people: set one, and see where it stands."""

from __future__ import annotations

from pointsman.coordinator.budgets.ledger import PREFIX, Ledger, state_of
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Event
from pointsman.kernel.policy import budget as ledgers
from pointsman.kernel.policy.amounts import Budget
from pointsman.kernel.policy.budget import LedgerState
from pointsman.ports.budgets import BUDGET_SCOPES, BudgetView
from pointsman.ports.clock import Clock
from pointsman.ports.system_log import SystemLog

NAME_CHARS_MAX = 256


class CoordinatorBudgets:
    """Implements `ports.budgets.Budgets`. Any coordinator may be asked. All of them know a new limit within
    about a second."""

    def __init__(self, system: SystemLog, clock: Clock) -> None:
        self._system = system
        self._clock = clock

    async def set(self, scope: str, budget: Budget, by: str) -> BudgetView:
        """Set a budget; it stands above what the code declares. What is out already stays out: below that, nothing is
        granted until it fits.

        Raises:
            InvalidValue: not a scope, or not a budget that can be shared; the message says what would be.
            StoreUnavailable: only while reading; a write is tried until it stands.
        """
        kind, _, name = scope.partition("/")
        if kind not in BUDGET_SCOPES or not 0 < len(name) <= NAME_CHARS_MAX:
            raise InvalidValue(f"{scope!r} is no budget: agent/NAME or tenant/NAME, a name of up to {NAME_CHARS_MAX}")
        if not by or by == ledgers.DECLARED:
            raise InvalidValue(f"by={by!r}: say who sets the budget")
        try:
            ledgers.check_shared(budget)
        except ValueError as error:
            raise InvalidValue(str(error)) from error
        ledger = Ledger(scope, self._system, self._clock)

        def decide(state: LedgerState, now_ms: int) -> list[Event]:
            is_done = state.by == by and state.budget == budget
            return [] if is_done else [ledgers.set_budget(state, budget, by, now_ms)]

        await ledger.read()
        await ledger.write(decide)
        return self._view(scope, ledger.state)

    async def get(self, scope: str) -> BudgetView | None:
        """None: nobody has set it, and no call has needed it yet. Raises StoreUnavailable."""
        head = await self._system.head(PREFIX + scope)
        return None if head is None else self._view(scope, state_of(head))

    async def list(self, *, after: str = "", limit: int = 100) -> list[BudgetView]:
        """By scope, from the one after `after` on. Raises StoreUnavailable."""
        heads = await self._system.heads(PREFIX, after=PREFIX + after if after else "", limit=limit)
        return [self._view(head.stream.removeprefix(PREFIX), state_of(head)) for head in heads]

    def _view(self, scope: str, state: LedgerState) -> BudgetView:
        now = self._clock.now()
        return BudgetView(
            scope=scope, budget=state.budget, by=state.by, spent=state.settled_at(now), reserved=state.out_at(now),
            free=state.budget.limited(state.free_at(now)), tranches=len(state.tranches),
            window_ends_at=ledgers.window_end_ms(state.budget, state.window_at(now)),
        )  # fmt: skip
