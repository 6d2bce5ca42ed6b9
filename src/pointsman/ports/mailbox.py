"""The mailbox: what others want of a run. One row each; the owner folds them into the run's stream, in their order.

Obligations: the first mail of a (run, key) wins and the second is told so; a run that has ended refuses; mails of a
run are numbered densely from 1 in the order in which they were accepted; a parked run becomes due at once; mail
that was accepted is either folded before the run ends or the ending append does not move.
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
        """Accept one mail and return its number.

        Raises:
            UnknownRun, RunEnded, DuplicateMail, StoreUnavailable.
        """
        ...

    async def read(self, run: str, *, after: int) -> list[Mail]:
        """The mails of a run with number > `after`, in order."""
        ...

    async def find(self, run: str, key: str) -> Mail | None:
        """The mail that was accepted under this key."""
        ...

    async def unread(self, owner: int) -> Mapping[str, int]:
        """Runs that this incarnation owns and whose mail is not all folded, with their mail counts."""
        ...
