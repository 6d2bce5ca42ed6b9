"""The keeper of the agents: follows their records (`agent/X`), keeps the directory up to date, and carries out what
people and services ask for. Implements `ports.agents.Agents`.

Nobody owns these streams: whoever appends brings the folded state along, and the loser of a race decides again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from pointsman.agents import record as rec
from pointsman.agents import traffic
from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import Agent
from pointsman.agents.card import NAME, PULL
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.record import AgentRecord
from pointsman.coordinator.duties import keep
from pointsman.kernel.errors import InvalidValue, UnknownEvent, WrongExpectedSequence
from pointsman.kernel.events import Event
from pointsman.kernel.policy.breaker import Sums
from pointsman.ports.agents import TTL_S_MAX, TTL_S_MIN, AgentNotFound, AgentView, BreakerView, Registered
from pointsman.ports.clock import Clock
from pointsman.ports.system_log import SystemHead, SystemLog, new_events

POLL_MS = 200
TRIES_MAX = 100
"""Lost races in a row. Each was won by somebody else, so this many mean that something appends without end."""
_BREAKER_EVENTS = frozenset(("BreakerOpened", "BreakerHalfOpened", "BreakerClosed", "BreakerPinned", "BreakerUnpinned"))

logger = logging.getLogger("pointsman.agents")


Decide = Callable[[AgentRecord], Sequence[Event]]
"""Pure; called once for each try. What it raises ends them."""


async def append(log: SystemLog, stream: str, decide: Decide, now: Callable[[], int]) -> tuple[AgentRecord, int]:
    """Append what `decide` returns for the state of an agent's stream; decide again if another append was first. If
    `decide` returns nothing, nothing is appended.

    Returns: the record, and the sequence that it stands at; 0 if there is no stream.

    Raises:
        StoreUnavailable: nothing is known about the last try; ask again.
        WrongExpectedSequence: after 100 lost races.
    """
    for left in reversed(range(TRIES_MAX)):
        head = await log.head(stream)
        sequence = head.sequence if head is not None else 0
        record = rec.read_record(head.state if head is not None else None)
        events = decide(record)
        if not events:
            return record, sequence
        at = now()
        for event in events:
            record.evolve(event, at)
        try:
            await log.append(stream, sequence, new_events(events, at), rec.write_record(record))
        except WrongExpectedSequence:
            if left == 0:
                raise
            continue
        return record, sequence + len(events)
    raise AssertionError("unreachable")


class AgentKeeper:
    """A service: `start`, `stop`; the operations at any time.

    Args:
        addresses: the addresses that agents which register may have.
        poll_ms: how often to read the records; changes made here show at once.

    Attributes:
        on_change: called with the name of each agent whose record changed; it must not raise. None: nobody is told.
        sums: what all coordinators count of an agent in its breaker's window.
        workers: how many workers fetch an agent's calls. All three may be set at any time.
    """

    def __init__(
        self, log: SystemLog, clock: Clock, directory: AgentDirectory, *, addresses: AgentAddresses | None = None,
        on_change: Callable[[str], None] | None = None, sums: Callable[[str], Sums] | None = None,
        poll_ms: int = POLL_MS,
    ) -> None:  # fmt: skip
        self._log = log
        self._clock = clock
        self._directory = directory
        self._addresses = addresses if addresses is not None else AgentAddresses()
        self.on_change = on_change
        self.sums = sums
        self.workers: Callable[[str], int] | None = None
        self._poll_s = poll_ms / 1000
        self._cursor: str | None = None
        self._sequences: dict[str, int] = {}
        self._cards: dict[str, tuple[Agent, msgspec.Raw]] = {}
        self._task: asyncio.Task[None] | None = None
        directory.now = clock.now

    # -- following ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, and return once the directory knows every recorded agent: the first run driven here may have called
        any of them. Raises StoreUnavailable.
        """
        await self.refresh()
        self._task = asyncio.create_task(keep(self._follow, self._poll_s), name="agents")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the records now. Raises StoreUnavailable."""
        try:
            heads, cursor = await self._log.changes(rec.PREFIX, cursor=self._cursor)
        except InvalidValue:  # the database is another, or an older one, than it was: all that is known is in doubt
            self._cursor = None
            self._sequences.clear()
            raise
        self._take(heads)
        self._cursor = cursor

    def _take(self, heads: Sequence[SystemHead]) -> None:
        for head in heads:
            name = head.stream.removeprefix(rec.PREFIX)
            try:
                self._learn(name, rec.read_record(head.state), head.sequence)
            except UnknownEvent as error:
                logger.warning("agent %s: %s", name, error)

    def _learn(self, name: str, record: AgentRecord, sequence: int) -> None:
        """Take in a record unless a newer one is known: a slow read must not undo an append of ours."""
        if sequence <= self._sequences.get(name, 0):
            return
        self._sequences[name] = sequence
        self._directory.apply({name: record})
        if self.on_change is not None:
            self.on_change(name)

    async def append(self, name: str, decide: Decide) -> AgentRecord:
        """Append what `decide` returns to this agent's stream, and show it here at once. Raises what `append`
        raises.
        """
        record, sequence = await append(self._log, rec.stream_of(name), decide, self._clock.now)
        self._learn(name, record, sequence)
        return record

    # -- registration -------------------------------------------------------------------------------------------------

    async def register(self, card: bytes, *, ttl_s: float) -> Registered:
        """See `ports.agents.Agents`. Raises also InvalidValue: a TTL that is none."""
        described = rec.read_card(card)
        ttl_ms = _ttl_ms(ttl_s)
        if described.transport == PULL and self._directory.is_own_pull(described.name):
            return Registered(self._view(described.name), created=False)
        if described.url is not None:
            self._addresses.check_url(described.url)
        if described.health is not None and described.health.url is not None:
            self._addresses.check_url(described.health.url)
        self._directory.build(described)
        created = False

        def decide(record: AgentRecord) -> Sequence[Event]:
            nonlocal created
            now = self._clock.now()
            created = not record.is_registered(now)
            return rec.register(record, described, ttl_ms, now)

        await self.append(described.name, decide)
        return Registered(self._view(described.name), created)

    async def renew(self, name: str, *, ttl_s: float) -> AgentView:
        """See `ports.agents.Agents`."""
        ttl_ms = _ttl_ms(ttl_s)
        if self._directory.is_own_pull(_checked(name)):
            return self._view(name)
        self._directory.check_free(name)
        await self.append(name, lambda record: rec.renew(record, name, ttl_ms, self._clock.now()))
        return self._view(name)

    async def leave(self, name: str, *, reason: str = "") -> bool:
        """See `ports.agents.Agents`."""
        was = False

        def decide(record: AgentRecord) -> Sequence[Event]:
            nonlocal was
            events = rec.leave(record, reason, self._clock.now())
            was = bool(events)
            return events

        await self.append(_checked(name), decide)
        return was

    # -- operators --------------------------------------------------------------------------------------------------

    async def enable(self, name: str, *, by: str = "") -> AgentView:
        """See `ports.agents.Agents`."""
        await self.append(await self._known(name), lambda record: rec.enable(record, by))
        return self._view(name)

    async def disable(self, name: str, *, reason: str = "", by: str = "") -> AgentView:
        """See `ports.agents.Agents`."""
        await self.append(await self._known(name), lambda record: rec.disable(record, by, reason))
        return self._view(name)

    async def pin_breaker(self, name: str, state: str, *, by: str = "") -> BreakerView:
        """See `ports.agents.Agents`. Raises also ValueError: no such state."""
        await self.append(await self._known(name), lambda record: traffic.pin(record.traffic, state, by))
        return await self._breaker(name)

    async def unpin_breaker(self, name: str, *, by: str = "") -> BreakerView:
        """See `ports.agents.Agents`."""
        await self.append(await self._known(name), lambda record: traffic.unpin(record.traffic, by))
        return await self._breaker(name)

    # -- views ------------------------------------------------------------------------------------------------------

    async def list(self) -> Sequence[AgentView]:
        """See `ports.agents.Agents`."""
        return [self._view(name) for name in self._names()]

    async def get(self, name: str) -> AgentView:
        """See `ports.agents.Agents`."""
        return self._view(await self._known(name))

    async def breakers(self) -> Sequence[BreakerView]:
        """See `ports.agents.Agents`."""
        return [await self._breaker(name) for name in self._names()]

    def _names(self) -> Sequence[str]:
        return sorted(agent.name for agent in self._directory.agents())

    async def _known(self, name: str) -> str:
        """The name of an existing agent; one that has just registered may not be known here yet.

        Raises:
            AgentNotFound.
        """
        if self._directory.agent(_checked(name)) is None:
            await self.refresh()
        if self._directory.agent(name) is None:
            raise AgentNotFound(f"there is no agent {name!r}: the app does not declare it, and none has registered so")
        return name

    def _view(self, name: str) -> AgentView:
        agent = self._directory.agent(name)
        if agent is None:  # its record is there, and its card is none that can be used here
            raise AgentNotFound(f"agent {name!r} can't be used by this coordinator")
        record = self._directory.record(name) or AgentRecord()
        problem = self._directory.problem(name, self._clock.now())
        registered = not self._directory.is_own(name)
        return AgentView(
            name, self._card(agent), registered=registered, enabled=record.disabled is None, health=record.health,
            breaker=_position(record), problem=problem.kind if problem is not None else None,
            expires_at=record.until if registered else None,
            workers=self.workers(name) if self.workers is not None and agent.transport == PULL else None,
        )  # fmt: skip

    def _card(self, agent: Agent) -> msgspec.Raw:
        """Kept: the schemas of a function are worked out anew each time."""
        known = self._cards.get(agent.name)
        if known is None or known[0] is not agent:
            known = self._cards[agent.name] = (agent, msgspec.Raw(msgspec.json.encode(agent.card)))
        return known[1]

    async def _breaker(self, name: str) -> BreakerView:
        record = self._directory.record(name) or AgentRecord()
        breaker = record.traffic.breaker
        sums = self.sums(name) if self.sums is not None else Sums()
        since = None
        if breaker.openings or breaker.closed_at or breaker.pinned is not None or breaker.position != "closed":
            for event in await self._log.read(rec.stream_of(name)):
                since = event.at if event.type in _BREAKER_EVENTS else since
        return BreakerView(
            name, _position(record), pinned=breaker.pinned, reason=breaker.reason, since=since, calls=sums.calls,
            failures=sums.failures, slow=sums.slow,
        )  # fmt: skip


def _position(record: AgentRecord) -> str:
    breaker = record.traffic.breaker
    return (breaker.pinned or breaker.position).replace("_", "-")


def _checked(name: str) -> str:
    """Names of streams are made of it. Raises AgentNotFound."""
    if not NAME.fullmatch(name):
        raise AgentNotFound(f"{name[:100]!r} can't be the name of an agent")
    return name


def _ttl_ms(ttl_s: float) -> int:
    """Raises InvalidValue."""
    if not TTL_S_MIN <= ttl_s <= TTL_S_MAX:
        raise InvalidValue(f"ttl={ttl_s}: {TTL_S_MIN:g} to {TTL_S_MAX:g} seconds")
    return round(ttl_s * 1000)
