"""The verbs on budgets that many runs share: what a coordinator offers to its HTTP API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from pointsman.kernel.policy.amounts import Amount, Budget

BUDGET_SCOPES = ("agent", "tenant")


class BudgetView(msgspec.Struct, frozen=True):
    """Where a shared budget stands.

    Attributes:
        scope: `agent/NAME` or `tenant/NAME`.
        by: who set it; `declaration`: it stands in the code.
        window_ends_at: ms by the database's clock; None: it has no window.
        spent: settled in this window. reserved: out in tranches of it: spent and not settled yet, or set aside.
        free: what may still be reserved; a part that is not limited is no figure, and is 0.
        tranches: how many are out, of this window and earlier ones.
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
    """Every method raises `StoreUnavailable` when the store can't be reached."""

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[BudgetView]:
        """By scope, from the one after `after` on."""
        ...

    async def get(self, scope: str) -> BudgetView | None:
        """None: nobody has set it, and no call has needed it yet."""
        ...

    async def set(self, scope: str, budget: Budget, by: str) -> BudgetView:
        """Set a budget; it stands above what the code declares. A budget without any limit lets everything pass.

        Raises: InvalidValue: not a scope, or not a budget that can be shared.
        """
        ...
