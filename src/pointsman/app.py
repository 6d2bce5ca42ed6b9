"""`App`: declare agents and workflows with decorators. This is the only module that wires rooms together."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, overload

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import Agent, define_agent
from pointsman.agents.card import HTTP, LOCAL, PULL, Card, Health, check_event
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.state_schema import Upcaster
from pointsman.agents.transport import Transport
from pointsman.agents.workflow import Workflow, define_workflow, with_settings
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.policy.amounts import Budget, Cost
from pointsman.kernel.policy.breaker import Breaker
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.values import VALUE_BYTES_MAX
from pointsman.ports.store import Store
from pointsman.transports.http import HttpTransport
from pointsman.transports.local import LocalTransport
from pointsman.transports.pull import PullTransport
from pointsman.transports.webhook import WebhookTeller, read_secrets
from pointsman.workflows import triggers

BASE_32 = b"0123456789abcdefghijklmnopqrstuv"
"""Digits in the order of their characters, so that ids sort as the numbers do."""
BASE_64 = BASE_32 + b"wxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
_PAIRS = [bytes((high, low)) for high in BASE_32 for low in BASE_32]
_OF_32, _OF_64 = BASE_32 * 8, BASE_64 * 4
"""Tables for `bytes.translate`: of random bytes they make random digits."""


class SystemIds:
    """Generate ids from the operating system's entropy.

    A run id has 22 base-32 characters: 48 bits of milliseconds, then 62 random bits. The time comes first so that ids
    are inserted into an index in order.
    """

    def run_id(self) -> str:
        entropy = os.urandom(13)
        time_and_2_bits = time.time_ns() // 1_000_000 << 2 | entropy[0] & 3
        digits = [_PAIRS[time_and_2_bits >> bits & 1023] for bits in (40, 30, 20, 10, 0)]
        return (b"".join(digits) + entropy[1:].translate(_OF_32)).decode()

    def nonce(self) -> bytes:
        # It tells appends apart and keeps no secret, at a tenth of urandom's cost.
        return random.getrandbits(64).to_bytes(8)

    def seed(self) -> str:
        return os.urandom(16).translate(_OF_64).decode()


@dataclass(frozen=True)
class HttpAgents:
    """How to reach agents behind URLs.

    Attributes:
        addresses: the addresses that agents may have.
        callback: base URL of the API to which agents report during an attempt (`ctx.once`); None: they can't.
        token: sent to agents as `Authorization: Bearer`.
    """

    addresses: AgentAddresses = field(default_factory=AgentAddresses)
    callback: str | None = None
    token: str | None = None


NO_PRIVATE_AGENTS = HttpAgents()


@dataclass(frozen=True)
class Webhook:
    """The webhook that is notified when a human task is opened, escalated or expires.

    Attributes:
        url: its address must be one that agents may have (`HttpAgents.addresses`).
        secrets: one or more `whsec_...` secrets in the format of Standard Webhooks, separated by spaces; each of them
            signs.
    """

    url: str
    secrets: str = field(repr=False)


class App:
    """The agents and workflows of one program.

    Args:
        name: the app's name, for display.
        generalist: the agent that gets calls that no other agent can take, and calls to names that do not exist.
        value_bytes_max: limit of one input or output, in bytes of JSON.
        tenant_budgets: by tenant, the budget that all its runs share; "*" applies to each tenant that is not named.
    """

    def __init__(
        self, name: str, *, generalist: str | None = None, value_bytes_max: int = VALUE_BYTES_MAX,
        tenant_budgets: Mapping[str, Budget] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.value_bytes_max = value_bytes_max
        self.tenant_budgets = dict(tenant_budgets or {})
        self._generalist = generalist
        self._agents: dict[str, Agent] = {}
        self._workflows: dict[tuple[str, int], Workflow] = {}

    @overload
    def agent(self, function: Callable[..., Any], /) -> Agent: ...

    @overload
    def agent(
        self, function: None = None, /, *, name: str = ..., version: str = ..., description: str = ...,
        capabilities: Sequence[str] = ..., failures: Mapping[str, bool] = ..., timeout: float = ...,
        heartbeat: float | None = ..., concurrency: int | None = ..., rate: float | None = ...,
        cost: Cost | None = ..., budget: Budget | None = ..., idempotent: bool = ...,
        fallback: Sequence[str | Agent] | None = ..., hold: float = ..., retry: Retry | None = ...,
        breaker: Breaker | None = ..., health: Callable[[], Any] | None = ..., health_policy: Health | None = ...,
        transport: Literal["pull"] | None = ...,
    ) -> Callable[[Callable[..., Any]], Agent]: ...  # fmt: skip

    def agent(
        self, function: Callable[..., Any] | None = None, /, *, name: str = "", version: str = "1",
        description: str = "", capabilities: Sequence[str] = (), failures: Mapping[str, bool] | None = None,
        timeout: float = 30.0, heartbeat: float | None = None, concurrency: int | None = None,
        rate: float | None = None, cost: Cost | None = None, budget: Budget | None = None, idempotent: bool = True,
        fallback: Sequence[str | Agent] | None = None, hold: float = 60.0, retry: Retry | None = None,
        breaker: Breaker | None = None, health: Callable[[], Any] | None = None, health_policy: Health | None = None,
        transport: Literal["pull"] | None = None,
    ) -> Agent | Callable[[Callable[..., Any]], Agent]:  # fmt: skip
        """Declare an agent: a sync or async function whose signature is its schema.

        Args:
            name: defaults to the function's name.
            capabilities: what `run.select` may choose the agent for.
            failures: the kinds of failure that it raises (`AgentError(kind=...)`), each with whether a retry may help.
            timeout: seconds for one attempt. heartbeat: seconds without `ctx.heartbeat()` after which an attempt is
                ended.
            concurrency: attempts at the same time in the whole cluster. rate: attempts per second in the whole cluster.
            cost: what one attempt costs. budget: limit on what all attempts together may use up.
            idempotent: False: an attempt whose outcome is unknown is never repeated, by this agent or another.
            fallback: agents that get the call when this one fails, in order. Default: the app's generalist. Empty:
                nobody.
            hold: seconds that a call waits for an agent that can't take it before it is given up.
            retry: when to retry a failed attempt. Default: three attempts, the first wait 2 s, each next one twice as
                long.
            breaker: when failures stop further calls. health, health_policy: a function that raises when the agent is
                unhealthy, and how often it is called.
            transport: "pull": coordinators never call the function; workers (`pointsman worker`) fetch its calls.

        Raises:
            ValueError, TypeError: the message says what to change.
        """
        chain = None if fallback is None else tuple(who if isinstance(who, str) else who.name for who in fallback)
        card = Card(
            name=name, version=version, description=description, capabilities=tuple(capabilities),
            failures=dict(failures or {}), timeout=timeout, heartbeat=heartbeat, concurrency=concurrency, rate=rate,
            cost=cost, budget=budget, idempotent=idempotent, fallback=chain, hold=hold, retry=retry or Retry(),
            breaker=breaker or Breaker(), health=health_policy, transport=transport,
        )  # fmt: skip

        def declare(function: Callable[..., Any]) -> Agent:
            agent = define_agent(function, card, health_check=health, bytes_max=self.value_bytes_max)
            if agent.name in self._agents:
                raise ValueError(f"there is an agent {agent.name!r} already")
            self._agents[agent.name] = agent
            self.__dict__.pop("directory", None)
            return agent

        return declare if function is None else declare(function)

    @overload
    def workflow(self, function: Callable[..., Coroutine[Any, Any, Any]], /) -> Workflow: ...

    @overload
    def workflow(
        self, function: None = None, /, *, name: str | None = ..., version: int = ..., budget: Budget | None = ...,
        turns_max: int | None = ..., repeats_max: int | None = ..., state: Any = ..., state_version: int = ...,
        state_upcasters: Mapping[int, Upcaster] | None = ...,
    ) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Workflow]: ...  # fmt: skip

    def workflow(
        self, function: Callable[..., Coroutine[Any, Any, Any]] | None = None, /, *, name: str | None = None,
        version: int = 1, budget: Budget | None = None, turns_max: int | None = None, repeats_max: int | None = None,
        state: Any = None, state_version: int = 1, state_upcasters: Mapping[int, Upcaster] | None = None,
    ) -> Workflow | Callable[[Callable[..., Coroutine[Any, Any, Any]]], Workflow]:  # fmt: skip
        """Declare a workflow: an `async def` with a parameter of type `Run`. Several versions may be declared side by
        side.

        Args:
            budget: of a run that is started without one.
            turns_max: limit on calls of agents in one run. repeats_max: limit on calls of one agent with the same
                input.
                The call beyond either limit raises LoopDetected in the body.
            state: the type of `run.state`: a pydantic model or a dataclass. state_version: its version, from 1; raise
                it
                with each change of the type that older states do not fit.
            state_upcasters: by version, a function that turns plain data of that version into plain data of the next,
                for
                runs whose state is older than the code.

        Raises:
            ValueError, TypeError: the message says what to change.
        """

        def declare(function: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow:
            workflow = define_workflow(
                function, name=name, version=version, bytes_max=self.value_bytes_max, budget=budget,
                turns_max=turns_max, repeats_max=repeats_max,
                state=state, state_version=state_version, state_upcasters=state_upcasters,
            )  # fmt: skip
            if (workflow.name, workflow.version) in self._workflows:
                raise ValueError(f"there is a workflow {workflow.name!r} v{workflow.version} already")
            self._workflows[workflow.name, workflow.version] = workflow
            self.__dict__.pop("directory", None)
            return workflow

        return declare if function is None else declare(function)

    def on(self, *events: str) -> Callable[[Agent | Callable[..., Any]], Agent]:
        """Subscribe an agent, or a function that becomes one, to events.

        In a run that began with an event (`app.events`), the agent is called with the data of each event that it
        subscribes to. The events that it emits (`ctx.emit`) trigger others.

        The signature decides what the agent gets of the data: each parameter gets the field of the same name. A single
        parameter whose name is not a field gets all of it.

        Raises:
            ValueError, TypeError: the message says what to change.
        """
        if not events or not all(isinstance(event, str) for event in events):
            raise TypeError('on(...) wants names of events: @app.on("ticket.opened")')

        def subscribe(what: Agent | Callable[..., Any]) -> Agent:
            agent = what if isinstance(what, Agent) else self.agent(what)
            if self._agents.get(agent.name) is not agent:
                raise ValueError(f"{agent.name} is no agent of this app")
            agent = agent.subscribed(events)
            self._agents[agent.name] = agent
            self.__dict__.pop("directory", None)
            return agent

        return subscribe

    def events(
        self, start: str, *, ends: Sequence[str] = (), version: int = 1, budget: Budget | None = None,
        turns_max: int = triggers.TURNS_MAX, repeats_max: int = triggers.REPEATS_MAX,
    ) -> Workflow:  # fmt: skip
        """Declare that a run may begin with this event.

        This adds a workflow with the event's name, whose input is the event's data. The agents that subscribe to the
        event are called, then the agents that subscribe to what those emit, and so on. The result is the list of end
        events, in order.

        Args:
            ends: events that the run may end with. When nothing is under way any more, one of them must have been
                emitted. Without `ends`, the run then completes with an empty result.
            turns_max: limit on calls of agents in one run. repeats_max: how often an event may come with the same data
                in
                one chain of causes.

        Raises:
            ValueError, TypeError: the message says what to change.
        """
        for event in (start, *ends):
            check_event(event)
        for limit, value in (("turns_max", turns_max), ("repeats_max", repeats_max)):
            if value < 1:
                raise ValueError(f"events {start}: {limit}={value}: at least 1")
        body = triggers.event_driven(start, tuple(ends), turns_max, repeats_max)
        workflow = self.workflow(name=start, version=version, budget=budget)(body)
        begins_with = "" if triggers.CRASHED in ends else start
        workflow = replace(with_settings(workflow, ends, turns_max, repeats_max), begins_with=begins_with)
        self._workflows[start, version] = workflow
        return workflow

    @cached_property
    def directory(self) -> AgentDirectory:
        """The directory of what is declared so far. Raises ValueError if the generalist is not an agent."""
        return self.new_directory()

    def new_directory(self) -> AgentDirectory:
        """A new directory, for one coordinator to keep up to date. Raises ValueError as `directory` does."""
        return AgentDirectory(
            self._agents.values(), self._workflows.values(), self._generalist, bytes_max=self.value_bytes_max
        )

    def coordinator(
        self, store: Store, settings: CoordinatorSettings | None = None, http: HttpAgents = NO_PRIVATE_AGENTS,
        webhook: Webhook | None = None,
    ) -> Coordinator:  # fmt: skip
        """Create a coordinator for this app on `store`. It is not started yet.

        Raises:
            AddressRefused: the webhook's URL is an address to which nothing may be sent. InvalidSecret (a ValueError):
                the
                webhook's secret is malformed.
        """
        settings = settings or CoordinatorSettings()
        remote = HttpTransport(http.addresses, callback=http.callback, token=http.token, bytes_max=self.value_bytes_max)
        pulled = PullTransport(
            silence_s=settings.worker_silence_ms / 1000, queue_max=settings.worker_queue_max,
            misses_max=settings.worker_misses_max, bytes_max=self.value_bytes_max,
        )  # fmt: skip
        local = LocalTransport(threads_max=settings.threads_max)
        transports: dict[str, Transport] = {LOCAL: local, HTTP: remote, PULL: pulled}
        return Coordinator(
            settings, store, self.new_directory(), SystemIds(), transports, self.tenant_budgets, http.addresses,
            remote.probe, pulled, None if webhook is None else _teller(webhook, http.addresses, settings),
        )  # fmt: skip

    @asynccontextmanager
    async def running(
        self, store: Store, settings: CoordinatorSettings | None = None, http: HttpAgents = NO_PRIVATE_AGENTS
    ) -> AsyncIterator[CoordinatorRuns]:
        """Run a coordinator in this process for the duration of the block; yields the verbs on runs."""
        coordinator = self.coordinator(store, settings, http)
        await coordinator.start()
        try:
            yield CoordinatorRuns(coordinator, bytes_max=self.value_bytes_max)
        finally:
            await coordinator.stop()


def _teller(webhook: Webhook, addresses: AgentAddresses, settings: CoordinatorSettings) -> WebhookTeller:
    return WebhookTeller(webhook.url, read_secrets(webhook.secrets), addresses, timeout_s=settings.webhook_timeout_s)
