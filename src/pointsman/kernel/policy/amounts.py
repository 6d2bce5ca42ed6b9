"""What agents may use up, counted: money, tokens, calls. Whole numbers, so that sums are exact on every node."""

from __future__ import annotations

import math

import msgspec

MICROS = 1_000_000
COUNT_MAX = 2**53


class Amount(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was, or may be, used up.

    Attributes:
        usd_micros: millionths of a US dollar.
        tokens: tokens of models, in and out.
        calls: attempts of agents.
    """

    usd_micros: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd_micros + other.usd_micros, self.tokens + other.tokens, self.calls + other.calls)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd_micros - other.usd_micros, self.tokens - other.tokens, self.calls - other.calls)

    def fits(self, limit: Amount) -> bool:
        """Is no part of it more than the same part of `limit`?"""
        return self.usd_micros <= limit.usd_micros and self.tokens <= limit.tokens and self.calls <= limit.calls

    def exceeds(self, most: Amount) -> bool:
        """Is a part of it more than what was said to be the most? A most of 0 says nothing of that part."""
        return 0 < most.usd_micros < self.usd_micros or 0 < most.tokens < self.tokens or 0 < most.calls < self.calls

    def __bool__(self) -> bool:
        return bool(self.usd_micros or self.tokens or self.calls)


NOTHING = Amount()


class Cost(msgspec.Struct, frozen=True):
    """What one attempt of an agent costs. `most` is reserved before it, and an agent that spends more is reported.

    Attributes:
        usd: dollars that an attempt is expected to cost; settled when the agent says nothing of its own.
        usd_most: dollars that it never exceeds; `usd` without.
        tokens, tokens_most: likewise.
    """

    usd: float = 0.0
    usd_most: float | None = None
    tokens: int = 0
    tokens_most: int | None = None

    def __post_init__(self) -> None:
        for name in ("usd", "usd_most", "tokens", "tokens_most"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1e9:
                raise ValueError(f"Cost({name}={value}): 0 to 1e9")
        if self.most.usd_micros < self.expected.usd_micros or self.most.tokens < self.expected.tokens:
            raise ValueError(f"{self}: the most that an attempt costs can't be less than what is expected")

    @property
    def expected(self) -> Amount:
        return Amount(micros(self.usd), self.tokens, 1)

    @property
    def most(self) -> Amount:
        usd = self.usd if self.usd_most is None else self.usd_most
        return Amount(micros(usd), self.tokens if self.tokens_most is None else self.tokens_most, 1)


class Budget(msgspec.Struct, frozen=True, omit_defaults=True):
    """A limit on what may be used up; what is None is not limited.

    Attributes:
        usd: dollars.
        tokens: of models, in and out.
        calls: attempts of agents.
        seconds: of wall time, counted from the start of a run (only for a run's own budget).
        per: seconds after which it is whole again (only for an agent's or a tenant's budget; None: never).
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    per: float | None = None

    def __post_init__(self) -> None:
        for name in ("usd", "tokens", "calls", "seconds", "per"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1e9:
                raise ValueError(f"Budget({name}={value}): 0 to 1e9, or None for no limit")

    @property
    def limit(self) -> Amount:
        """The limit as an amount; what is not limited is larger than anything counted."""
        return Amount(
            COUNT_MAX if self.usd is None else micros(self.usd),
            COUNT_MAX if self.tokens is None else self.tokens,
            COUNT_MAX if self.calls is None else self.calls,
        )

    def limited(self, amount: Amount) -> Amount:
        """`amount` without the parts that this budget does not limit."""
        return Amount(
            0 if self.usd is None else amount.usd_micros,
            0 if self.tokens is None else amount.tokens,
            0 if self.calls is None else amount.calls,
        )

    def share(self, part: Budget) -> Amount:
        """What `part` takes out of this budget."""
        return self.limited(part.limit)


def micros(usd: float) -> int:
    """Millionths of a dollar, rounded up: a price is never counted as less than it is.

    Raises:
        ValueError: not a finite number.
    """
    if not math.isfinite(usd):
        raise ValueError(f"{usd} is no price")
    return math.ceil(round(usd * MICROS, 3))
