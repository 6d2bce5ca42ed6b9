"""The mailbox: messages of others to a run, one row each. The owner folds them into the run's stream, in their order.

Obligations: of several mails of a run with the same key the first is accepted, and the others are told so. A run that
has ended refuses mail. The mails of a run are numbered densely from 1 in the order in which they were accepted. A
parked run becomes due at once. Accepted mail is folded before the run ends, or the append that would end the run does
not move.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class Mail(msgspec.Struct, frozen=True):
    number: int
    key: str
    kind: str
    body: bytes
    at: int


class Mailbox(Protocol):
    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        """Post one mail and return its number.

        Raises:
            UnknownRun, RunEnded, DuplicateMail, StoreUnavailable.
        """
        ...

    async def read(self, run: str, *, after: int) -> list[Mail]:
        """The mails of a run with number > `after`, in order."""
        ...

    async def find(self, run: str, key: str) -> Mail | None:
        """The mail that was accepted under this key; None if there is none."""
        ...

    async def unread(self, owner: int) -> Mapping[str, int]:
        """The runs of this incarnation that have mail which is not folded, with their mail counts."""
        ...
