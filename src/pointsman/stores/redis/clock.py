"""An estimate of the server's clock: this machine's monotonic clock, with the offset that is measured when the store is
opened and at each renewal of a lease.
"""

from __future__ import annotations

import time
from collections import deque

READINGS = 9
"""The offset is that of the quickest among this many last readings."""


class RedisClock:
    """Implements `Clock`. Never goes back."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque(maxlen=READINGS)
        self._offset_s = time.time() - time.monotonic()
        self._latest = 0

    def now(self) -> int:
        self._latest = max(self._latest, int((time.monotonic() + self._offset_s) * 1000))
        return self._latest

    def monotonic(self) -> float:
        return time.monotonic()

    def measured(self, server_ms: int, sent: float, received: float) -> None:
        """Take in that the server's time was `server_ms` between these two points of the monotonic clock."""
        self._readings.append((received - sent, server_ms / 1000 - (sent + received) / 2))
        self._offset_s = min(self._readings)[1]
