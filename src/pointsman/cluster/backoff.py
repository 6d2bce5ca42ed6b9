"""The pause before what has died is started again: short at first, longer while it keeps dying."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

BACKOFF_S_MIN: Final = 0.5
BACKOFF_S_MAX: Final = 10.0
HEALTHY_S: Final = 30.0
"""What lived so long begins again with the shortest pause when it dies."""

logger = logging.getLogger("pointsman.cluster")


@dataclass
class Backoff:
    """`pause_s`: seconds that the next pause takes."""

    pause_s: float = BACKOFF_S_MIN
    _began_at: float = 0.0

    def began(self) -> None:
        """It has been started."""
        self._began_at = time.monotonic()

    def died(self) -> None:
        """It is dead: was it healthy before?"""
        if time.monotonic() - self._began_at > HEALTHY_S:
            self.pause_s = BACKOFF_S_MIN

    async def pause(self, what: str) -> None:
        """Say `what` has happened, and wait."""
        logger.warning("%s; starting it again in %g s", what, self.pause_s)
        await asyncio.sleep(self.pause_s)
        self.pause_s = min(self.pause_s * 2, BACKOFF_S_MAX)
