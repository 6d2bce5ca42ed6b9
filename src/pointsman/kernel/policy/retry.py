"""Retry: when to try a failed call again, with exponential backoff, jitter, and support for Retry-After."""

from __future__ import annotations

import msgspec

from pointsman.kernel.events import Failure

SECONDS_MAX = 1e7


class Retry(msgspec.Struct, frozen=True):
    """How often and how soon a call is tried again.

    Attributes:
        attempts: tries in all, the first included; 1 means never again.
        base: seconds before the second try.
        factor: each further wait is this many times the one before.
        jitter: share by which a wait is moved at random, both ways (0.1: ±10 %).
        longest: seconds that a wait is never longer than. A Retry-After may be longer.
    """

    attempts: int = 3
    base: float = 2.0
    factor: float = 2.0
    jitter: float = 0.1
    longest: float = 60.0

    def __post_init__(self) -> None:
        if not (
            self.attempts >= 1
            and 0 <= self.base <= SECONDS_MAX
            and 1 <= self.factor <= SECONDS_MAX
            and 0 <= self.jitter < 1
            and 0 <= self.longest <= SECONDS_MAX
        ):
            raise ValueError(
                f"{self}: attempts >= 1, base >= 0, factor >= 1, 0 <= jitter < 1, longest >= 0, "
                f"and none over {SECONDS_MAX:g}"
            )


def next_delay_ms(retry: Retry, attempt: int, failure: Failure, entropy: float) -> int | None:
    """Milliseconds from the end of `attempt` to the next, or None: no other attempt.

    `entropy` in [0, 1) chooses the jitter; derived from the run's seed, so that a test can foresee it.
    """
    if not failure.retryable or attempt >= retry.attempts:
        return None
    wait = min(retry.base * min(retry.factor ** min(attempt - 1, 64), SECONDS_MAX), retry.longest)
    wait *= 1 + retry.jitter * (2 * entropy - 1)
    return max(round(wait * 1000), failure.retry_after_ms or 0)
