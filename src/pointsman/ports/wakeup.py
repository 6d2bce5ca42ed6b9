"""Wake-up: hints between coordinators that a run has something to do. A hint may be lost, so polls find the same work
later.

Obligations: `hint` never blocks and never fails; it is never part of an append. Many hints are sent as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Wakeup(Protocol):
    def hint(self, runs: Sequence[str]) -> None:
        """Tell the other coordinators soon."""
        ...

    async def next_hints(self) -> list[str]:
        """Wait for hints of others (and perhaps of one's own)."""
        ...
