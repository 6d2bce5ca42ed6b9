"""The streams `agent/X` as gates see them: the traffic in their state, and the loop that appends to them.

The state of such a stream is an object with more in it than traffic; the rest is carried along as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pointsman.agents.traffic import TrafficState
from pointsman.kernel.errors import WrongExpectedSequence
from pointsman.kernel.events import Event, encode_event
from pointsman.ports.clock import Clock
from pointsman.ports.event_log import NewEvent
from pointsman.ports.system_log import SystemHead, SystemLog

PREFIX = "agent/"
FIELD = "traffic"

Decide = Callable[[TrafficState, int], Sequence[Event]]
"""(state, now in ms) -> events. Called again when another appended first."""

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_traffic = msgspec.json.Decoder(TrafficState).decode
_encode = msgspec.json.encode


class Known(msgspec.Struct):
    """A stream as it was last seen. `fields`: all of its state."""

    sequence: int = 0
    traffic: TrafficState = msgspec.field(default_factory=TrafficState)
    fields: dict[str, msgspec.Raw] = {}


class AgentStreams:
    """See the module. Every method raises StoreUnavailable."""

    def __init__(self, system: SystemLog, clock: Clock) -> None:
        self._system = system
        self._clock = clock
        self._known: dict[str, Known] = {}
        self._cursor: str | None = None

    def known(self, name: str) -> Known:
        """As it was last seen; one that nobody wrote to is at sequence 0."""
        return self._known.get(name) or Known()

    async def poll(self) -> list[str]:
        """Read what changed since the last time. Returns the agents whose stream did."""
        heads, self._cursor = await self._system.changes(PREFIX, cursor=self._cursor)
        return [head.stream.removeprefix(PREFIX) for head in heads if self._learn(head)]

    async def refresh(self, name: str) -> None:
        """Read one stream's head: after an append whose reply was lost, nothing that is known counts."""
        head = await self._system.head(PREFIX + name)
        if head is not None:
            self._learn(head)

    async def append(self, name: str, decide: Decide) -> Sequence[Event]:
        """Append what `decide` says, at the sequence that it decided on. Returns it; empty: nothing was written."""
        while True:
            known, now = self.known(name), self._clock.now()
            events = decide(known.traffic, now)
            if not events:
                return events
            traffic = known.traffic.copy()
            for event in events:
                traffic.evolve(event, now)
            fields = {**known.fields, FIELD: msgspec.Raw(_encode(traffic))}
            new = [NewEvent(type(event).__name__, event.VERSION, now, encode_event(event)) for event in events]
            try:
                self._learn(await self._system.append(PREFIX + name, known.sequence, new, _encode(fields)))
            except WrongExpectedSequence:
                await self.refresh(name)
                continue
            return events

    def _learn(self, head: SystemHead) -> bool:
        name = head.stream.removeprefix(PREFIX)
        if head.sequence <= self.known(name).sequence:
            return False
        fields = _read_fields(head.state)
        traffic = _read_traffic(fields[FIELD]) if FIELD in fields else TrafficState()
        self._known[name] = Known(head.sequence, traffic, fields)
        return True
