"""What is tried again, and for how long. No clock and no waiting here: both clients ask it, and wait in their way.

Must not know HTTP.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pointsman.client.errors import Unreachable
from pointsman.kernel.errors import PointsmanError

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
JITTER = 0.2


class ConnectionRefused(Unreachable):
    """Nobody listens there, so nothing was done."""


@dataclass(frozen=True)
class Patience:
    """How long a request that met nobody, or nobody who could, is tried again.

    Attributes:
        retry_for: seconds, once somebody has answered.
        connect_for: seconds while nobody has answered yet: a wrong address is told sooner.
    """

    retry_for: float = 30.0
    connect_for: float = 5.0

    def pause_s(
        self, error: PointsmanError, *, tries: int, trying_s: float, has_answered: bool, repeats: bool,
        retry_after_s: float = 0.0,
    ) -> float:  # fmt: skip
        """Seconds until the next try.

        Args:
            tries: how many came to nothing so far, this one too. trying_s: for how long that went on.
            has_answered: somebody answered this client before.
            repeats: done twice it is done once. Else only what certainly was not done is tried again.
            retry_after_s: what the answer asked for.

        Raises:
            PointsmanError: `error`, when it is no use, or time is over.
        """
        limit_s = self.retry_for if has_answered else self.connect_for
        may_repeat = repeats or isinstance(error, ConnectionRefused)
        pause_s = PAUSES_S[min(tries, len(PAUSES_S)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)
        pause_s = max(pause_s, retry_after_s)
        if not error.retryable or not may_repeat or trying_s + pause_s > limit_s:
            raise error
        return pause_s
