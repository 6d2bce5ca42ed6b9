"""What gates count and are set to: windows of one agent, the sums that go on the board, settings, statistics."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pointsman.kernel.policy.breaker import Sums
from pointsman.kernel.policy.windows import Window


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Raises ValueError when a value makes no sense.

    Attributes:
        board_ms: how often the sums are published and the others' read; how late another coordinator's open breaker is
            respected.
        idle_ms: slots that nobody used for so long are given back.
        members_ms: how often, at most, to ask who is alive while slots are held by others and calls wait for them.
        retry_share: retries per first try of an agent, over `retry_window_s`, in the whole cluster.
        retry_floor: so many retries within the window are always allowed: a quiet agent may retry.
    """

    board_ms: int = 250
    idle_ms: int = 500
    members_ms: int = 1_000
    retry_share: float = 0.2
    retry_floor: int = 10
    retry_window_s: int = 30

    def __post_init__(self) -> None:
        if not 10 <= self.board_ms <= 1_000:
            raise ValueError(f"board_ms={self.board_ms}: 10 to 1000; a breaker must be respected within a second")
        if not (10 <= self.idle_ms <= 1_000 and self.members_ms >= 100):
            raise ValueError(f"{self}: idle_ms 10 to 1000, members_ms at least 100")
        if not (0 <= self.retry_share <= 1 and self.retry_floor >= 0 and 1 <= self.retry_window_s <= 3_600):
            raise ValueError(f"{self}: retry_share 0 to 1, retry_floor 0 or more, retry_window_s 1 to 3600")


class AgentSums(msgspec.Struct, frozen=True, array_like=True):
    """One agent's part of the board's section `traffic`: sums of the windows, and who waits.

    Attributes:
        term: since when the breaker's sums are counted (its `closed_at`): others' from before its closing are void.
        waiting: calls that want a slot. since: when the first of them came (ms).
    """

    calls: int = 0
    failures: int = 0
    slow: int = 0
    term: int = 0
    tries: int = 0
    retries: int = 0
    waiting: int = 0
    since: int = 0

    @property
    def sums(self) -> Sums:
        return Sums(self.calls, self.failures, self.slow)

    @property
    def is_empty(self) -> bool:
        return not (self.calls or self.tries or self.retries or self.waiting)


class RetryBudget:
    """Retries are a share of first tries: when everything fails, load does not multiply.

    Attributes:
        others_tries, others_retries: what the other coordinators counted.
    """

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._window = Window(settings.retry_window_s, 2)
        self.tries = 0
        self.retries = 0
        self.others_tries = 0
        self.others_retries = 0

    def sums(self, second: int) -> tuple[int, int]:
        """(first tries, retries) of this coordinator."""
        if self.tries or self.retries:
            self._window.add(second, self.tries, self.retries)
            self.tries = self.retries = 0
        tries, retries = self._window.sums(second)
        return tries, retries

    def allows(self, second: int) -> bool:
        tries, retries = self.sums(second)
        most = max(self._settings.retry_floor, self._settings.retry_share * (tries + self.others_tries))
        return retries + self.others_retries < most
