"""What came of a schedule, and what was logged as an error meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pointsman.kernel.events import Recorded


@dataclass
class Report:
    """What came of a schedule. `digest` is the same whenever the seed is."""

    seed: int
    violations: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    operations: int = 0
    runs_completed: int = 0
    runs: int = 0
    takeovers: int = 0
    invocations: int = 0
    repeated: int = 0
    """Attempts that were started more than once, by two owners."""
    steps: int = 0
    virtual_s: float = 0.0
    digest: str = ""
    trace: list[str] = field(default_factory=list)
    streams: Mapping[str, Sequence[Recorded]] = field(default_factory=dict)
    """The runs' logs, by seed and run, where they were asked for."""


@contextmanager
def listening(errors: list[str]) -> Iterator[None]:
    """Whatever the program under test logs as an error is a violation; nothing is printed."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
            errors.append(f"logged: {record.getMessage()}{cause}")

    logger, listener = logging.getLogger("pointsman"), Listener()
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(listener)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before[0])
        logger.propagate = before[1]
