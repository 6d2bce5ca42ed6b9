"""The operations on budgets that many runs share: what a coordinator offers to its HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.kernel.policy.amounts import Amount, Budget

BUDGET_SCOPES = ("agent", "tenant")


class BudgetView(msgspec.Struct, frozen=True):
    """The current state of a shared budget.

    Attributes:
        scope: `agent/NAME` or `tenant/NAME`.
        by: who set it; `declaration`: it is declared in the code.
        window_ends_at: ms by the database's clock; None: it has no window.
        spent: settled in this window. reserved: granted in tranches of this window: spent and not settled yet, or
            reserved.
        free: what may still be reserved; 0 in a part that is not limited.
        tranches: how many are granted and not settled, of this window and earlier ones.
    """

    scope: str
    budget: Budget
    by: str
    spent: Amount
    reserved: Amount
    free: Amount
    tranches: int
    window_ends_at: int | None = None


class Budgets(Protocol):
    """The operations on shared budgets. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[BudgetView]:
        """Budgets in the order of their scope, from the one after `after` on."""
        ...

    async def get(self, scope: str) -> BudgetView | None:
        """One budget. None if nobody has set it and no call has needed it yet."""
        ...

    async def set(self, scope: str, budget: Budget, by: str) -> BudgetView:
        """Set a budget; it takes precedence over the one declared in code. A budget without any limit allows
        everything.

        Raises: InvalidValue: not a scope, or not a budget that can be shared.
        """
        ...
