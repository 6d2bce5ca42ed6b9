"""The turn to be away: one coordinator of the cluster at a time may leave to come back as a new process.

It is recorded in a system stream, so the expected sequence decides between two that want it. It has a deadline by the
database's clock: a holder that never comes back does not keep it for ever. Those that wait stand in line, so that each
comes to it. Must not know why somebody leaves.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pointsman.kernel.errors import WrongExpectedSequence
from pointsman.kernel.events import Event
from pointsman.ports.clock import Clock
from pointsman.ports.system_log import SystemLog, new_events

STREAM: Final = "recycling"
WANTED_MS: Final = 6_000
"""Who was not heard of for so long stands in line no more."""


class TurnTaken(Event, frozen=True):
    """The coordinator of this name may be away until then (ms, the database's clock)."""

    name: str
    until: int


class TurnGivenBack(Event, frozen=True):
    """It is back."""

    name: str


class TurnWanted(Event, frozen=True):
    """The coordinator of this name stands in line."""

    name: str


class TurnState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the stream adds up to.

    Attributes:
        name: who is away; empty while nobody is. until: and for how long that counts.
        waiting: who stands in line, the first first, and when each was last heard of (ms).
    """

    name: str = ""
    until: int = 0
    waiting: dict[str, int] = {}

    def line(self, now: int) -> dict[str, int]:
        """Those in line that still want it."""
        return {name: heard for name, heard in self.waiting.items() if now - heard <= WANTED_MS}

    def is_free_for(self, name: str, now: int) -> bool:
        is_taken = self.name not in ("", name) and self.until > now
        return not is_taken and next(iter(self.line(now)), name) == name


_state_decoder = msgspec.json.Decoder(TurnState)


class Turn:
    """The turn, as the coordinator of one name wants it. Every method raises StoreUnavailable."""

    def __init__(self, name: str, log: SystemLog, clock: Clock) -> None:
        self._name = name
        self._log = log
        self._clock = clock

    async def take(self, away_ms: int) -> bool:
        """May this coordinator be away for so long? False: not now; it stands in line as long as it asks again within
        a second or two. Asked again by the holder (a reply was lost), it is yes."""
        sequence, state = await self._read()
        now = self._clock.now()
        line = state.line(now)
        if state.is_free_for(self._name, now):
            until = now + away_ms
            line.pop(self._name, None)
            return await self._append(sequence, TurnTaken(self._name, until), TurnState(self._name, until, line))
        if now - line.get(self._name, 0) > WANTED_MS // 3:
            line[self._name] = now
            await self._append(sequence, TurnWanted(self._name), TurnState(state.name, state.until, line))
        return False

    async def give_back(self) -> bool:
        """This coordinator is there again. False: it had no turn."""
        while True:
            sequence, state = await self._read()
            if state.name != self._name:
                return False
            if await self._append(sequence, TurnGivenBack(self._name), TurnState(waiting=state.waiting)):
                return True  # else somebody stood in line just then

    async def _read(self) -> tuple[int, TurnState]:
        head = await self._log.head(STREAM)
        return (0, TurnState()) if head is None else (head.sequence, _state_decoder.decode(head.state))

    async def _append(self, expected: int, event: TurnTaken | TurnGivenBack | TurnWanted, state: TurnState) -> bool:
        """False: somebody else was faster."""
        new = new_events([event], self._clock.now())
        try:
            await self._log.append(STREAM, expected, new, msgspec.json.encode(state))
        except WrongExpectedSequence:
            return False
        return True
