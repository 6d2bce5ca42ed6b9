"""People and services that meddle while runs go on: budgets are set, agents switched off and on, breakers pinned, and a
service behind a URL registers, reports, and leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import msgspec

from pointsman.agents.context import Context
from pointsman.coordinator.verbs.reports import CoordinatorAttempts
from pointsman.kernel.errors import PointsmanError, TaskAnswered, TaskClosed, UnknownTask
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.ports.agents import AgentNotFound, CallAddress
from pointsman.ports.human_tasks import TaskFilter
from pointsman.testing.sim.client import Clients
from pointsman.testing.sim.journal import Journal
from pointsman.testing.sim.node import Node

COURIER = {
    "name": "courier",
    "url": "http://127.0.0.1:9/courier",
    "timeout": 0.6,
    "heartbeat": 0.3,
    "hold": 0.5,
    "fallback": ["generalist"],
    "capabilities": ["carry"],
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "output_schema": {"type": "string"},
    "retry": {"attempts": 3, "base": 0.1},
}
"""The card of the service behind a URL."""
TTL_S = 1.5
TOO_LATE = (TaskAnswered, TaskClosed, UnknownTask)


class Operators:
    """Each meddles once or twice, at a time of the schedule's chance; whatever is switched off is on at the end."""

    def __init__(self, clients: Clients, rng: random.Random, *, span_s: float) -> None:
        self._clients = clients
        self._rng = rng
        self._span_s = span_s

    async def work(self) -> None:
        rng = self._rng
        doings = [
            self._courier(),
            *(
                rng.choice((self._budget, self._switch, self._pin, self._look, self._mode, self._inbox))()
                for _ in range(3)
            ),
        ]
        await asyncio.gather(*doings)

    async def _budget(self) -> None:
        await asyncio.sleep(self._rng.random() * self._span_s)
        scope, usd = self._rng.choice(("agent/costly", "tenant/default")), self._rng.choice((0.08, 0.2))
        budget = Budget(usd=usd, per=2.0)
        await self._do(f"set {scope}", lambda node: node.budgets.set(scope, budget, "operator"))
        await self._do("list budgets", lambda node: node.budgets.list())

    async def _switch(self) -> None:
        name = self._rng.choice(("flaky", "narrow", "frugal"))
        await asyncio.sleep(self._rng.random() * self._span_s)
        await self._do(f"disable {name}", lambda node: node.coordinator.agents.disable(name, reason="rest", by="o"))
        await asyncio.sleep(self._rng.random())
        await self._do(f"enable {name}", lambda node: node.coordinator.agents.enable(name, by="o"))

    async def _pin(self) -> None:
        name, state = self._rng.choice(("flaky", "narrow")), self._rng.choice(("open", "closed"))
        await asyncio.sleep(self._rng.random() * self._span_s)
        await self._do(f"pin {name} {state}", lambda node: node.coordinator.agents.pin_breaker(name, state, by="o"))
        await asyncio.sleep(self._rng.random())
        await self._do(f"unpin {name}", lambda node: node.coordinator.agents.unpin_breaker(name, by="o"))

    async def _mode(self) -> None:
        """Somebody sets the mode of the cluster, and lets it go."""
        await asyncio.sleep(self._rng.random() * self._span_s)
        mode = self._rng.choice(("degraded", "emergency"))
        await self._do(f"mode {mode}", lambda node: node.coordinator.modes.set(mode, by="o"))
        await asyncio.sleep(self._rng.random())
        await self._do("mode auto", lambda node: node.coordinator.modes.set("auto", by="o", reason="over"))

    async def _inbox(self) -> None:
        """Somebody looks at what is asked, and gives it to another."""

        async def passed_on(node: Node) -> object:
            tasks, _ = await node.inbox.list(TaskFilter(status=("open",)), limit=10)
            for task in tasks[:2]:
                await node.inbox.get(task.id)
                await node.inbox.assign(task.id, "bob", by="o")
            return tasks

        for _ in range(3):
            await asyncio.sleep(self._rng.random() * self._span_s)
            await self._do("pass on", passed_on)

    async def _look(self) -> None:
        """What consoles and scrapers read."""

        async def look(node: Node) -> object:
            await node.coordinator.agents.breakers()
            return node.coordinator.describe(), node.coordinator.metrics(), node.coordinator.is_ready()

        await asyncio.sleep(self._rng.random() * self._span_s)
        await self._do("look", look)
        if self._rng.random() < 0.1:  # schemas of functions are worked out, which takes long
            await self._do("agents", lambda node: node.coordinator.agents.list())

    async def _courier(self) -> None:
        """It registers, renews a few times, and leaves, or falls silent; at last it is there."""
        card = msgspec.json.encode(COURIER)
        await self._do("courier comes", lambda node: node.coordinator.agents.register(card, ttl_s=TTL_S))
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(self._rng.random())
            await self._do("courier renews", lambda node: node.coordinator.agents.renew("courier", ttl_s=TTL_S))
        if self._rng.random() < 0.5:
            await self._do("courier leaves", lambda node: node.coordinator.agents.leave("courier", reason="night"))

    async def _do(self, what: str, ask: Callable[[Node], Awaitable[object]]) -> None:
        async def asked(node: Node) -> str:
            try:
                await ask(node)
            except (AgentNotFound, *TOO_LATE):
                return "not found"
            return "done"

        await self._clients.operate(what, "", "", asked)


async def serve(any_node: Callable[[random.Random], Node], journal: Journal, context: Context) -> bytes:
    """One attempt of the service behind a URL: it records an effect, gives signs of life, and says what it spends, to
    whichever coordinator it reaches; what it can't report it goes on without."""
    address = CallAddress.parse(context.idempotency_key)

    async def tell(told: Callable[[CoordinatorAttempts], Awaitable[object]]) -> None:
        try:
            await any_node(journal.rng).ask(lambda node: told(node.reports), timeout_s=0.3, hangs_up=True)
        except (PointsmanError, TimeoutError):
            return

    await tell(lambda reports: reports.record_effect(address, "carried", b"1"))
    await journal.work(seconds=0.2)
    await tell(lambda reports: reports.heartbeat(address, context.attempt))
    await tell(lambda reports: reports.spend(address, context.attempt, Amount(usd_micros=10)))
    await journal.work(seconds=0.2)
    await tell(lambda reports: reports.find_effect(address, "carried"))
    return b'"carried"' if journal.rng.random() < 0.9 else b"7"
