"""The board: what coordinators tell each other several times a second, such as counts of calls and failures, the slots
they use, and what they wait for. Nothing on it is authoritative, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Board(Protocol):
    async def publish(self, incarnation: int, body: bytes) -> Mapping[int, bytes]:
        """Replace this incarnation's entry with `body`. Returns the latest entry of every other living incarnation.

        Raises: StoreUnavailable.
        """
        ...
