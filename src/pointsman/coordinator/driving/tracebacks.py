"""Log the tracebacks of agents and workflow bodies: a run's log has only the text of an exception, and its author wants
the line.

Each place that raises is logged once a minute, so that an agent that is down does not fill a disk.
"""

from __future__ import annotations

import logging
import math
import traceback

from pointsman.kernel.values import faithful
from pointsman.ports.clock import Clock

QUIET_S = 60.0
PLACES_MAX = 1_000
"""Places that are remembered; beyond it all are forgotten."""
TEXT_CHARS_MAX, TRACEBACK_CHARS_MAX = 200, 20_000

Place = tuple[str, int, str]
"""File, line, and name of the exception's type."""
logger = logging.getLogger("pointsman.tracebacks")


class Tracebacks:
    """Logs tracebacks, at most one a minute for each place."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Place, float] = {}

    def tell(self, error: BaseException, who: str) -> None:
        """Log the exception that `who` raised, unless this place was logged lately."""
        place, now = _place(error), self._clock.monotonic()
        if now - self._told.get(place, -math.inf) < QUIET_S:
            return
        if len(self._told) >= PLACES_MAX:
            self._told.clear()
        self._told[place] = now
        # Not as `exc_info`: an exception may hold text that a log can't be written with, a lone surrogate say.
        said = faithful(error, TEXT_CHARS_MAX)
        lines = faithful("".join(traceback.format_exception(error)), TRACEBACK_CHARS_MAX).rstrip()
        logger.warning("%s raised %s: %s\n%s", who, type(error).__name__, said, lines)


def _place(error: BaseException) -> Place:
    """The place where the exception was raised."""
    at = error.__traceback__
    if at is None:
        return "", 0, type(error).__name__
    while at.tb_next is not None:
        at = at.tb_next
    return at.tb_frame.f_code.co_filename, at.tb_lineno, type(error).__name__
