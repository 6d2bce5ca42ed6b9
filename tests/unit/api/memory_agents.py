"""Small, real `Agents` and `Attempts` in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from pointsman.kernel.errors import RunEnded
from pointsman.kernel.policy.amounts import Amount
from pointsman.ports.agents import (
    AgentDeclared,
    AgentNotFound,
    AgentView,
    AttemptOver,
    BreakerView,
    CallAddress,
    Effect,
    Registered,
)

NOW_MS = 1_767_225_600_000


class MemoryAgents:
    """`triage` is declared by the app; others may register."""

    def __init__(self) -> None:
        self.views = {"triage": AgentView("triage", msgspec.Raw(b'{"name":"triage"}'))}
        self.pins: dict[str, str] = {}
        self.reasons: list[str] = []

    async def list(self) -> Sequence[AgentView]:
        return [self.views[name] for name in sorted(self.views)]

    async def get(self, name: str) -> AgentView:
        if name not in self.views:
            raise AgentNotFound
        return self.views[name]

    async def register(self, card: bytes, *, ttl_s: float) -> Registered:
        name = str(msgspec.json.decode(card)["name"])
        before = self.views.get(name)
        if before is not None and not before.registered:
            raise AgentDeclared
        view = AgentView(name, msgspec.Raw(card), registered=True, expires_at=NOW_MS + round(ttl_s * 1000))
        self.views[name] = view
        return Registered(view, created=before is None)

    async def renew(self, name: str, *, ttl_s: float) -> AgentView:
        return self._changed(await self.get(name), expires_at=NOW_MS + round(ttl_s * 1000))

    async def leave(self, name: str) -> bool:
        return self.views.pop(name, None) is not None

    async def enable(self, name: str) -> AgentView:
        return self._changed(await self.get(name), enabled=True, problem=None)

    async def disable(self, name: str, *, reason: str = "") -> AgentView:
        self.reasons.append(reason)
        return self._changed(await self.get(name), enabled=False, problem="disabled")

    async def breakers(self) -> Sequence[BreakerView]:
        return [self._breaker(name) for name in sorted(self.views)]

    async def pin_breaker(self, name: str, state: str) -> BreakerView:
        await self.get(name)
        self.pins[name] = state
        return self._breaker(name)

    async def unpin_breaker(self, name: str) -> BreakerView:
        await self.get(name)
        self.pins.pop(name, None)
        return self._breaker(name)

    def _changed(self, view: AgentView, **fields: object) -> AgentView:
        self.views[view.name] = msgspec.structs.replace(view, **fields)
        return self.views[view.name]

    def _breaker(self, name: str) -> BreakerView:
        pinned = self.pins.get(name)
        return BreakerView(name, pinned or "closed", pinned, reason="pinned" if pinned else "", since=NOW_MS)


class MemoryAttempts:
    """Every call is under way, at attempt 1, until `over`."""

    def __init__(self) -> None:
        self.effects: dict[tuple[CallAddress, str], bytes] = {}
        self.beats: list[tuple[CallAddress, int]] = []
        self.spent: list[tuple[CallAddress, int, Amount]] = []
        self.heard_of_spending = asyncio.Event()
        self.over = False
        self.run_ended = False

    async def find_effect(self, call: CallAddress, name: str) -> bytes | None:
        return self.effects.get((call, name))

    async def record_effect(self, call: CallAddress, name: str, value: bytes) -> Effect:
        if self.run_ended:
            raise RunEnded
        created = (call, name) not in self.effects
        return Effect(msgspec.Raw(self.effects.setdefault((call, name), value)), created)

    async def heartbeat(self, call: CallAddress, attempt: int) -> None:
        self._check()
        self.beats.append((call, attempt))

    async def spend(self, call: CallAddress, attempt: int, so_far: Amount) -> None:
        self._check()
        self.spent.append((call, attempt, so_far))
        self.heard_of_spending.set()

    def _check(self) -> None:
        if self.over:
            raise AttemptOver
