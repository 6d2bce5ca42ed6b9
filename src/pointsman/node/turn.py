"""The turn to be away: one coordinator of the cluster at a time may leave to come back as a new process.

It is recorded in a system stream, so the expected sequence decides between two that want it. It has a deadline by the
database's clock: a holder that never comes back does not keep it for ever. Must not know why somebody leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from pointsman.kernel.errors import WrongExpectedSequence
from pointsman.kernel.events import Event
from pointsman.ports.clock import Clock
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import SystemLog

STREAM: Final = "recycling"


class TurnTaken(Event, frozen=True):
    """The coordinator of this name may be away until then (ms, the database's clock)."""

    name: str
    until: int


class TurnGivenBack(Event, frozen=True):
    """It is back."""

    name: str


class TurnState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the stream adds up to. `name` is empty while nobody is away."""

    name: str = ""
    until: int = 0

    def is_free(self, now: int) -> bool:
        return not self.name or self.until <= now


_state_decoder = msgspec.json.Decoder(TurnState)


class Turn:
    """The turn, as the coordinator of one name wants it. Every method raises StoreUnavailable."""

    def __init__(self, name: str, log: SystemLog, clock: Clock) -> None:
        self._name = name
        self._log = log
        self._clock = clock

    async def take(self, away_ms: int) -> bool:
        """May this coordinator be away for so long? False: another is. Asked again by the holder (a reply was lost), it
        is yes."""
        sequence, state = await self._read()
        now = self._clock.now()
        if not state.is_free(now) and state.name != self._name:
            return False
        until = now + away_ms
        return await self._append(sequence, TurnTaken(self._name, until), TurnState(self._name, until))

    async def give_back(self) -> bool:
        """This coordinator is there again. False: it had no turn."""
        sequence, state = await self._read()
        if state.name != self._name:
            return False
        return await self._append(sequence, TurnGivenBack(self._name), TurnState())

    async def _read(self) -> tuple[int, TurnState]:
        head = await self._log.head(STREAM)
        return (0, TurnState()) if head is None else (head.sequence, _state_decoder.decode(head.state))

    async def _append(self, expected: int, event: TurnTaken | TurnGivenBack, state: TurnState) -> bool:
        """False: somebody else was faster."""
        new: Sequence[NewEvent] = [
            NewEvent(type(event).__name__, event.VERSION, self._clock.now(), msgspec.json.encode(event))
        ]
        try:
            await self._log.append(STREAM, expected, new, msgspec.json.encode(state))
        except WrongExpectedSequence:
            return False
        return True
