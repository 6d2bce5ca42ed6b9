"""What a coordinator offers to workers (`ports.workers.Workers`): its desk, the addresses of the others, and a way for
each result to whoever owns the run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.verbs.reports import Forward, owner_of
from pointsman.kernel.errors import Draining, RunEnded
from pointsman.ports.agents import AttemptOver, CallAddress
from pointsman.ports.workers import AttemptResult, CoordinatorAddress, Desk, Handed, Poll, WorkerView

MEMBERS_S = 0.25
"""How old the list of coordinators may be that workers are given: so many of them ask, so few statements."""


class CoordinatorWorkers:
    """Implements `ports.workers.Workers` for one coordinator.

    Args:
        forward: how a result reaches the owner of the run, where that is another.
    """

    def __init__(self, coordinator: Coordinator, desk: Desk, forward: Forward) -> None:
        self._coordinator = coordinator
        self._desk = desk
        self._forward = forward
        self._members: list[CoordinatorAddress] = []
        self._members_at = -MEMBERS_S

    @property
    def address(self) -> str:
        """See `ports.workers.Workers`."""
        return self._coordinator.settings.address

    async def coordinators(self) -> Sequence[CoordinatorAddress]:
        """See `ports.workers.Workers`."""
        if time.monotonic() - self._members_at >= MEMBERS_S:
            members = await self._coordinator.store.liveness.members()
            self._members = [CoordinatorAddress(m.name, m.address, m.incarnation) for m in members if m.address]
            self._members_at = time.monotonic()
        return self._members

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """See `ports.workers.Workers`. Raises also Draining: what this coordinator has goes to others."""
        if self._coordinator.is_draining:
            raise Draining
        return await self._desk.poll(worker, poll, wait_s)

    def leave(self, worker: str) -> bool:
        """See `ports.workers.Workers`."""
        return self._desk.leave(worker)

    def workers(self) -> Sequence[WorkerView]:
        """See `ports.workers.Workers`."""
        return self._desk.workers()

    async def finish(self, call: CallAddress, attempt: int, result: AttemptResult) -> None:
        """See `ports.workers.Workers`."""
        if self._desk.settle(call.key, attempt, result):
            return
        try:
            address = await owner_of(self._coordinator, call, attempt)
            await self._forward(address, f"/v1/runs/{call.run}/attempts/finish", _body(call, attempt, result))
        except (AttemptOver, RunEnded):
            self._coordinator.stats.workers.results_refused += 1
            raise


def _body(call: CallAddress, attempt: int, result: AttemptResult) -> Mapping[str, Any]:
    """As a worker sends it."""
    body: dict[str, Any] = {"key": call.key, "attempt": attempt}
    if result.failure is None:
        body |= {"output": msgspec.Raw(result.output), "emitted": result.emitted}
    else:
        body["failure"] = msgspec.to_builtins(result.failure)
    return body | {name: said for name in ("usd", "tokens") if (said := getattr(result, name)) is not None}
