"""What agents behind HTTP report of the attempts that they are at (`ports.agents.Attempts`): effects go into the run's
mailbox, whoever owns it; signs of life and spending go to the attempt itself, in its owner's memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from pointsman.coordinator.driving.attempt import Attempt
from pointsman.coordinator.driving.effects import Effects
from pointsman.coordinator.reading import head_of
from pointsman.coordinator.service import Coordinator
from pointsman.kernel.errors import RunEnded, StoreUnavailable
from pointsman.kernel.policy.amounts import MICROS, Amount
from pointsman.kernel.values import VALUE_BYTES_MAX, decode
from pointsman.ports.agents import AttemptOver, CallAddress, Effect
from pointsman.ports.event_log import ENDED_STATUSES

Forward = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]
"""(address, path, body): pass a report on to the coordinator at this address. Raises AttemptOver, StoreUnavailable."""


class CoordinatorAttempts:
    """Implements `ports.agents.Attempts`. Any coordinator may be asked.

    Args:
        forward: how a report reaches the owner of the run, where that is another.
    """

    def __init__(self, coordinator: Coordinator, forward: Forward, *, bytes_max: int = VALUE_BYTES_MAX) -> None:
        self._coordinator = coordinator
        self._store = coordinator.store
        self._effects = Effects(coordinator.store.mailbox)
        self._forward = forward
        self._bytes_max = bytes_max

    async def find_effect(self, call: CallAddress, name: str) -> bytes | None:
        """See `ports.agents.Attempts`."""
        found = await self._effects.find(call.run, call.key, name)
        if found is None:
            await self._check_open(call.run)
        return found

    async def record_effect(self, call: CallAddress, name: str, value: bytes) -> Effect:
        """See `ports.agents.Attempts`."""
        decode(value, bytes_max=self._bytes_max)
        stands, created = await self._effects.record(call.run, call.call, call.key, name, value)
        if created:
            self._coordinator.hint(call.run)
        return Effect(msgspec.Raw(stands), created)

    async def heartbeat(self, call: CallAddress, attempt: int) -> None:
        """See `ports.agents.Attempts`."""
        under_way = await self._find(call, attempt, "heartbeat", {})
        if under_way is not None:
            under_way.heartbeat()

    async def spend(self, call: CallAddress, attempt: int, so_far: Amount) -> None:
        """See `ports.agents.Attempts`."""
        body = {"usd": so_far.usd_micros / MICROS, "tokens": so_far.tokens}
        under_way = await self._find(call, attempt, "spend", body)
        if under_way is not None:
            under_way.spent_so_far(so_far)

    async def _find(self, call: CallAddress, number: int, verb: str, body: Mapping[str, Any]) -> Attempt | None:
        """The attempt, if it is under way here. None: its owner was told."""
        crew = self._coordinator.roster.crew
        found = crew.dispatcher.find(call.key, number) if crew is not None else None
        if found is not None:
            return found
        address = await owner_of(self._coordinator, call, number)
        path = f"/v1/runs/{call.run}/attempts/{verb}"
        await self._forward(address, path, {"key": call.key, "attempt": number, **body})
        return None

    async def _check_open(self, run: str) -> None:
        """Raises UnknownRun, RunEnded."""
        if (await head_of(self._store.log, run)).status in ENDED_STATUSES:
            raise RunEnded


async def owner_of(coordinator: Coordinator, call: CallAddress, attempt: int) -> str:
    """The address of the coordinator that waits for this attempt, which is not under way here.

    Raises:
        AttemptOver, RunEnded, UnknownRun: nobody does. StoreUnavailable: somebody may before long.
    """
    store = coordinator.store
    head = await head_of(store.log, call.run)
    if head.status in ENDED_STATUSES:
        raise RunEnded
    if head.owner == coordinator.incarnation:
        if not _may_come(coordinator, call, attempt):
            raise AttemptOver
        raise StoreUnavailable(f"run {call.run}: the attempt is about to be laid out here again; ask again")
    if head.owner is None:
        if head.status == "parked":
            raise AttemptOver  # nothing of it is under way anywhere
        raise StoreUnavailable(f"run {call.run} is between two owners; ask again")
    members = await store.liveness.members()
    address = next((member.address for member in members if member.incarnation == head.owner), "")
    if not address:
        raise StoreUnavailable(f"the owner of run {call.run} has died, and it is about to have another; ask again")
    return address


def _may_come(coordinator: Coordinator, call: CallAddress, attempt: int) -> bool:
    """The run is owned here, and the attempt is not under way: does the log still wait for it?"""
    driver = coordinator.roster.driver(call.run)
    if driver is None:
        return True  # it is being loaded
    pending = driver.execution.state.calls.get(call.call)
    return (
        pending is not None
        and (pending.key, pending.attempt) == (call.key, attempt)
        and pending.retry_at is None
        and pending.task is None
    )
