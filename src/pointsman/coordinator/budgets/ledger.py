"""The stream of one budget: decide on its state, append, and make sure of the outcome.

A lost reply must not leak a tranche. So a write is repeated until the stream itself shows what happened: either it
shows the decision, or its sequence has moved on, and then the append whose reply was lost can never arrive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from pointsman.kernel.errors import StoreUnavailable, WrongExpectedSequence
from pointsman.kernel.events import Event
from pointsman.kernel.policy.budget import LedgerState, evolve
from pointsman.ports.clock import Clock
from pointsman.ports.system_log import SystemHead, SystemLog, new_events

PREFIX = "budget/"
RETRY_S = 0.1
"""Pause after the store could not be reached."""

Decide = Callable[[LedgerState, int], Sequence[Event]]
"""(state, now in ms) -> events. Asked again when another append won, or a reply was lost; so it must give nothing for
what the state shows to be done."""

logger = logging.getLogger("pointsman.budgets")

_state_decoder = msgspec.json.Decoder(LedgerState)


def state_of(head: SystemHead) -> LedgerState:
    return _state_decoder.decode(head.state)


class Ledger:
    """Reads and writes the stream of one budget. `scope`: `agent/NAME` or `tenant/NAME`. One `write` at a time.

    Attributes:
        state: as it was last seen; its truth is the store's.
        sequence: of that state; 0: the stream does not exist, or was never seen.
    """

    def __init__(self, scope: str, system: SystemLog, clock: Clock) -> None:
        self.scope = scope
        self.state = LedgerState()
        self.sequence = 0
        self._system = system
        self._clock = clock
        self._is_current = False
        """Nothing speaks against `state` being the newest."""

    def saw(self, head: SystemHead) -> None:
        """Somebody has read the stream's head. It never goes back: a reading that took long is older than what is
        known, and a tranche that it does not show yet must not pass for settled."""
        if head.sequence > self.sequence:
            self.sequence, self.state = head.sequence, state_of(head)

    async def read(self) -> None:
        """Raises StoreUnavailable."""
        head = await self._system.head(PREFIX + self.scope)
        if head is not None:
            self.saw(head)
        self._is_current = True

    async def write(self, decide: Decide) -> None:
        """Append what `decide` says, until it stands in the stream. Waits while the store can't be reached. That there
        is nothing to append is believed only of a state that was read for it."""
        is_read = False
        while True:
            try:
                if not self._is_current:
                    await self.read()
                    is_read = True
                now = self._clock.now()
                events = decide(self.state, now)
                if events:
                    await self._append(events, now)
                    return
                if is_read:
                    return
                self._is_current = False
            except WrongExpectedSequence:
                self._is_current = False
            except StoreUnavailable as error:
                logger.info("budget %s: %s; trying again", self.scope, error)
                self._is_current = False
                await asyncio.sleep(RETRY_S)

    async def _append(self, events: Sequence[Event], now: int) -> None:
        expected, state = self.sequence, self.state
        for event in events:
            state = evolve(state, event)
        rows = new_events(events, now)
        self.saw(await self._system.append(PREFIX + self.scope, expected, rows, msgspec.json.encode(state)))
