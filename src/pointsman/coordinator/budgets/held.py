"""A tranche that this coordinator holds: what is left of it, and the reservations from it that have not ended."""

from __future__ import annotations

from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget

RESERVATIONS_MAX = 1_000
"""Reservations from one tranche. Whoever settles it for a dead coordinator reads them all."""


class HeldTranche:
    """A tranche that this coordinator holds.

    Attributes:
        amount: as the ledger has it. left: of it, neither spent nor reserved; negative where an agent overspent.
        spent: by all attempts that ended. pending: reservations without an end. made: reservations so far.
        until_ms: the end of its window; None: never. touched: when it was last used, monotonic seconds.
        is_retired: nothing is reserved from it any more.
    """

    __slots__ = ("amount", "budget", "id", "is_retired", "left", "made", "pending", "spent", "touched", "until_ms")

    def __init__(self, id_: str, amount: Amount, budget: Budget, until_ms: int | None, now: float) -> None:
        self.id = id_
        self.amount = self.left = amount
        self.budget = budget
        self.until_ms = until_ms
        self.spent = NOTHING
        self.pending = self.made = 0
        self.touched = now
        self.is_retired = False

    def can_hold(self, amount: Amount, now_ms: int) -> bool:
        if self.is_retired or self.is_over(now_ms):
            return False
        return self.budget.limited(amount).fits(self.left)

    def is_over(self, now_ms: int) -> bool:
        return self.made >= RESERVATIONS_MAX or (self.until_ms is not None and now_ms >= self.until_ms)

    def reserve(self, amount: Amount, now: float) -> None:
        self.left -= self.budget.limited(amount)
        self.pending += 1
        self.made += 1
        self.touched = now

    def settle(self, reserved: Amount, spent: Amount, now: float) -> None:
        """An attempt has ended, and that is durable."""
        self.left += self.budget.limited(reserved) - self.budget.limited(spent)
        self.spent += spent
        self.pending -= 1
        self.touched = now
        if not NOTHING.fits(self.left):
            self.is_retired = True  # overspent: the ledger must know soon

    def give_back(self) -> bool:
        """Keep what is spent or reserved, and no more. False: there is nothing else in it."""
        surplus = Amount(*(max(part, 0) for part in (self.left.usd_micros, self.left.tokens, self.left.calls)))
        self.left -= surplus
        self.amount -= surplus
        return bool(surplus)
