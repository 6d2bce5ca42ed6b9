"""What a call used up, added up from what its events say: money, tokens, attempts.

Pure. Amounts are as the API gives them: `{"usd_micros", "tokens", "calls"}`, each absent where it is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PARTS = ("usd_micros", "tokens", "calls")


@dataclass
class Cost:
    """`at_most`: an attempt in it has an end that nobody knows, and counts with all that it might have used up."""

    amount: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    at_most: bool = False

    def add(self, amount: Mapping[str, Any]) -> None:
        for part in PARTS:
            self.amount[part] += int(amount.get(part, 0))

    def add_all(self, other: Cost) -> None:
        self.add(other.amount)
        self.at_most = self.at_most or other.at_most

    def __bool__(self) -> bool:
        return any(self.amount.values())

    def __str__(self) -> str:
        return f"{'≤ ' if self.at_most else ''}{amount_text(self.amount)}"


@dataclass
class Account:
    """Of one call. An attempt that was reserved for costs what is said at its end, and else all that was reserved."""

    spent: Cost = field(default_factory=Cost)
    _reserved: Mapping[str, Any] | None = None

    def reserve(self, amount: Mapping[str, Any]) -> None:
        self.settle(None)
        self._reserved = amount

    def settle(self, amount: Mapping[str, Any] | None) -> None:
        """The attempt under way is over."""
        if amount is not None:
            self.spent.add(amount)
        elif self._reserved is not None:
            self.spent.add(self._reserved)
            self.spent.at_most = True
        self._reserved = None


def amount_text(amount: Mapping[str, Any]) -> str:
    """`$0.0042 · 1,200 tokens`; attempts only where nothing else is counted."""
    usd, tokens, calls = (int(amount.get(part, 0)) for part in PARTS)
    said = [money(usd)] if usd else []
    if tokens:
        said.append(f"{tokens:,} tokens")
    if not said and calls:
        said.append(f"{calls} {'try' if calls == 1 else 'tries'}")
    return " · ".join(said) or "nothing"


def money(micros: int) -> str:
    """Dollars with two decimals, or as many as it takes: `$12.00`, `$0.0042`."""
    sign, whole = "-" if micros < 0 else "", abs(micros)
    decimals = f"{whole % 1_000_000:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole // 1_000_000:,}.{decimals}"


def budget_text(budget: Mapping[str, Any]) -> str:
    """A run's own budget; empty: without a limit."""
    said = [money(round(budget["usd"] * 1_000_000))] if budget.get("usd") is not None else []
    said += [f"{budget[part]:,} {part}" for part in ("tokens", "calls") if budget.get(part) is not None]
    if budget.get("seconds") is not None:
        said.append(f"{budget['seconds']:g} s")
    return " · ".join(said)
