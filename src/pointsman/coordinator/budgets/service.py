"""The purses of one incarnation: what its calls may spend of the budgets that many runs share.

A service: `start`, `stop`; `reserve`, `settle` and `release` at any time in between, in the coordinator's event loop.
It must not outlive its incarnation: what it holds then is settled by others (`recovery.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator, Mapping

from pointsman.agents.agent import Agent
from pointsman.coordinator.budgets.held import HeldTranche
from pointsman.coordinator.budgets.ledger import PREFIX, RETRY_S, Ledger, state_of
from pointsman.coordinator.budgets.purse import Purse, Ready
from pointsman.coordinator.budgets.recovery import Recovery
from pointsman.coordinator.duties import keep
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.amounts import Amount, Budget
from pointsman.kernel.policy.budget import DECLARED, attempt_of, check_shared
from pointsman.ports.store import Store

POLL_S = 1.0
"""How soon a budget that an operator sets is known everywhere, and how often the tranches of the dead are looked at."""
TICK_S = 0.2
DROPPED_AFTER_S = 60.0
"""A purse that nobody used for so long leaves memory."""
EACH_TENANT = "*"
NO_PURSES: list[Purse] = []

logger = logging.getLogger("pointsman.budgets")


class Purses:
    """The purses of one incarnation, one for each shared budget.

    Args:
        tenant_budgets: by tenant; "*" for each tenant without its own.

    Attributes:
        is_needed: False: no call counts in a shared budget, but for the one on its own agent's card.

    Raises:
        ValueError: a budget that can't be shared.
    """

    def __init__(self, store: Store, incarnation: int, tenant_budgets: Mapping[str, Budget] | None = None) -> None:
        for tenant, budget in (tenant_budgets or {}).items():
            try:
                check_shared(budget)
            except ValueError as error:
                raise ValueError(f"tenant {tenant!r}: {error}") from None
        self._store = store
        self._incarnation = incarnation
        self._tenant_budgets = dict(tenant_budgets or {})
        self._agents: dict[str, Purse] = {}
        self._tenants: dict[str, Purse] = {}
        self._held: dict[str, tuple[Purse, HeldTranche]] = {}
        self._early: dict[Ready, None] | None = {}
        """Who asked before it was known which budgets operators have set; None: that is known."""
        self.is_needed = True
        self._cursor: str | None = None
        self._tranche_ids: Iterator[str] = (f"{incarnation}-{number}" for number in itertools.count(1))
        self._recovery = Recovery(store, incarnation)
        self._settled: asyncio.Queue[str] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        duties = (self._watch, self._recover, self._tick, self._forget)
        self._tasks = [asyncio.create_task(keep(duty, RETRY_S), name=f"budgets {duty.__name__}") for duty in duties]

    async def stop(self) -> None:
        """Stop; idempotent. What is still held is settled by a living coordinator after this incarnation has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for purse in self._purses():
            await purse.stop()

    # -- what calls ask -----------------------------------------------------------------------------------------------

    def reserve(self, agent: Agent, tenant: str, amount: Amount, ready: Ready) -> tuple[str, ...] | Failure | None:
        """Reserve what one attempt may use up in every shared budget that applies to it.

        Returns:
            The tranches that it was taken from; empty if no budget applies. They are recorded in the attempt's
                CallReserved,
            and passed to `settle` once the attempt's end is durable, or to `release` if the CallReserved never was.
            A Failure `budget_exceeded`: nothing is reserved.
            None: more is being asked for; `ready` is called, in the loop, when it is worth trying again.
        """
        purses = self._of(agent, tenant)
        if self._early is not None:
            self._early[ready] = None
            return None
        if not purses:
            return ()
        amount = attempt_of(amount)
        found = [purse.find(amount) for purse in purses]
        refusal = next((answer for answer in found if isinstance(answer, Failure)), None)
        if refusal is not None:
            return refusal
        held = [answer for answer in found if isinstance(answer, HeldTranche)]
        if len(held) < len(purses):
            for purse, answer in zip(purses, found, strict=True):
                if answer is None:
                    purse.ask(amount, ready)
            return None
        now = self._store.clock.monotonic()
        for tranche in held:
            tranche.reserve(amount, now)
        return tuple(tranche.id for tranche in held)

    def applies(self, agent: Agent, tenant: str) -> bool:
        """Whether `reserve` may have to take from a tranche."""
        if self.is_needed or agent.described.budget is not None:
            return self._early is not None or bool(self._of(agent, tenant))
        return False

    def settle(self, tranches: tuple[str, ...], reserved: Amount, spent: Amount | None) -> None:
        """The attempt is over, and its end is durable: what it spent counts, and the rest is free again.

        Args:
            reserved: as it was given to `reserve`.
            spent: None: the end is unknown, it counts in full.

        Tranches of other incarnations are ignored: they are settled from the runs' logs.
        """
        full = attempt_of(reserved)
        self._end(tranches, full, full if spent is None else attempt_of(spent))

    def release(self, tranches: tuple[str, ...], reserved: Amount) -> None:
        """Undo a reservation that is not in the log and never will be, because its append was refused or not made."""
        self._end(tranches, attempt_of(reserved), Amount())

    def _end(self, tranches: tuple[str, ...], reserved: Amount, spent: Amount) -> None:
        for tranche in tranches:
            known = self._held.get(tranche)
            if known is not None:
                known[1].settle(reserved, spent, self._store.clock.monotonic())

    # -- which budgets ------------------------------------------------------------------------------------------------

    def _of(self, agent: Agent, tenant: str) -> list[Purse]:
        """The purses of the budgets that a call counts in. Costs two look-ups where there are none."""
        by_agent, by_tenant = self._agents.get(agent.name), self._tenants.get(tenant)
        budget = agent.described.budget
        if budget is None and by_agent is None and by_tenant is None and not self._tenant_budgets:
            return NO_PURSES
        if budget is not None:
            if by_agent is None:
                by_agent = self._agents[agent.name] = self._purse(f"agent/{agent.name}", budget)
            elif budget is not by_agent.declared:
                by_agent.declare(budget)
        if by_tenant is None and self._tenant_budgets:
            budget = self._tenant_budgets.get(tenant, self._tenant_budgets.get(EACH_TENANT))
            if budget is not None:
                by_tenant = self._tenants[tenant] = self._purse(f"tenant/{tenant}", budget)
        return [purse for purse in (by_agent, by_tenant) if purse is not None and purse.is_limit]

    def _purse(self, scope: str, declared: Budget | None, ledger: Ledger | None = None) -> Purse:
        clock = self._store.clock
        self.is_needed = True
        ledger = ledger or Ledger(scope, self._store.system, clock)
        return Purse(ledger, declared, self._incarnation, clock, self._tranche_ids, self._took, self._gave_back)

    def _purses(self) -> list[Purse]:
        return [*self._agents.values(), *self._tenants.values()]

    def _took(self, purse: Purse, held: HeldTranche) -> None:
        self._held[held.id] = (purse, held)

    def _gave_back(self, held: HeldTranche) -> None:
        del self._held[held.id]
        if held.made:
            self._settled.put_nowait(held.id)

    # -- duties -------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """See what operators set, and who holds tranches."""
        while True:
            heads, self._cursor = await self._store.system.changes(PREFIX, cursor=self._cursor)
            for head in heads:
                scope = head.stream.removeprefix(PREFIX)
                state = state_of(head)
                self._recovery.saw(scope, state)
                kind, _, name = scope.partition("/")
                purses = self._agents if kind == "agent" else self._tenants
                purse = purses.get(name)
                if purse is None and state.by != DECLARED:
                    purse = purses[name] = self._purse(scope, self._declared(kind, name))
                if purse is not None:
                    purse.ledger.saw(head)
                    purse.look()
            early, self._early = self._early or {}, None
            self.is_needed = bool(self._tenant_budgets or self._agents or self._tenants)
            for ready in early:
                ready()
            await asyncio.sleep(POLL_S)

    def _declared(self, kind: str, name: str) -> Budget | None:
        """A card's budget is seen when its agent is called."""
        return self._tenant_budgets.get(name, self._tenant_budgets.get(EACH_TENANT)) if kind == "tenant" else None

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._recovery.sweep()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._store.clock.monotonic()
            for purses in (self._agents, self._tenants):
                for name, purse in list(purses.items()):
                    purse.tick()
                    is_old = purse.is_idle and now - purse.used_at > DROPPED_AFTER_S
                    if is_old and purse.ledger.state.by in ("", DECLARED):
                        del purses[name]

    async def _forget(self) -> None:
        """The reservations of what is settled are of no more use."""
        while True:
            tranche = await self._settled.get()
            try:
                await self._store.reservations.forget(tranche)
            except StoreUnavailable:
                self._settled.put_nowait(tranche)
                raise
