"""`App`: agents and workflows declared by decorators. The only place that wires rooms together."""

from __future__ import annotations

import os
import random
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, overload

from pointsman.agents.agent import Agent, define_agent
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.workflow import Workflow, define_workflow
from pointsman.coordinator.runs import CoordinatorRuns
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.policy.retry import Retry
from pointsman.kernel.values import VALUE_BYTES_MAX
from pointsman.ports.store import Store

BASE32 = "0123456789abcdefghijklmnopqrstuv"


class SystemIds:
    """Ids from the operating system's entropy. Run ids are 22 characters that begin with the time, so that an index
    takes
    them in order: 48 bits of milliseconds and 62 at random, in the alphabet of base 32 that sorts as it counts."""

    def run_id(self) -> str:
        number = (time.time_ns() // 1_000_000) << 62 | int.from_bytes(os.urandom(8)) >> 2
        return "".join(BASE32[number >> shift & 31] for shift in range(105, -1, -5))

    def nonce(self) -> bytes:
        return random.randbytes(8)  # tells appends apart and keeps no secret, at a tenth of urandom's cost

    def seed(self) -> str:
        return urlsafe_b64encode(os.urandom(12)).decode()


class App:
    """The agents and workflows of a program, under one name.

    Args:
        name: for people.
        generalist: the agent that gets what nobody else can do, and calls of names that do not exist.
        value_bytes_max: limit of one input or output, in bytes of JSON.
    """

    def __init__(self, name: str, *, generalist: str | None = None, value_bytes_max: int = VALUE_BYTES_MAX) -> None:
        self.name = name
        self.value_bytes_max = value_bytes_max
        self._generalist = generalist
        self._agents: dict[str, Agent] = {}
        self._workflows: dict[tuple[str, int], Workflow] = {}

    @overload
    def agent(self, function: Callable[..., Any], /) -> Agent: ...

    @overload
    def agent(
        self,
        function: None = None,
        /,
        *,
        name: str | None = ...,
        capabilities: Sequence[str] = ...,
        timeout: float = ...,
        retry: Retry | None = ...,
    ) -> Callable[[Callable[..., Any]], Agent]: ...

    def agent(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        capabilities: Sequence[str] = (),
        timeout: float = 30.0,
        retry: Retry | None = None,
    ) -> Agent | Callable[[Callable[..., Any]], Agent]:
        """Declare an agent: a sync or async function whose signature is its schema.

        Args:
            name: the function's own without.
            capabilities: what `run.select` may choose it for.
            timeout: seconds for one attempt.
            retry: when a failed attempt is followed by another; three attempts, 2 s apart and doubling, without.

        Raises:
            ValueError, TypeError: with what to change.
        """

        def declare(function: Callable[..., Any]) -> Agent:
            agent = define_agent(
                function, name=name, capabilities=tuple(capabilities), timeout=timeout, retry=retry or Retry(),
                bytes_max=self.value_bytes_max,
            )  # fmt: skip
            if agent.name in self._agents:
                raise ValueError(f"there is an agent {agent.name!r} already")
            self._agents[agent.name] = agent
            self.__dict__.pop("directory", None)
            return agent

        return declare if function is None else declare(function)

    def workflow(
        self, *, name: str | None = None, version: int = 1
    ) -> Callable[[Callable[..., Coroutine[Any, Any, Any]]], Workflow]:
        """Declare a workflow: an `async def` with a parameter of type `Run`. Several versions may stand side by side.

        Raises:
            ValueError, TypeError: with what to change.
        """

        def declare(function: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow:
            workflow = define_workflow(function, name=name, version=version, bytes_max=self.value_bytes_max)
            if (workflow.name, workflow.version) in self._workflows:
                raise ValueError(f"there is a workflow {workflow.name!r} v{workflow.version} already")
            self._workflows[workflow.name, workflow.version] = workflow
            self.__dict__.pop("directory", None)
            return workflow

        return declare

    @cached_property
    def directory(self) -> AgentDirectory:
        """What is declared so far. Raises ValueError: the generalist is not an agent."""
        return AgentDirectory(self._agents.values(), self._workflows.values(), self._generalist)

    def coordinator(self, store: Store, settings: CoordinatorSettings | None = None) -> Coordinator:
        """A coordinator for this app on `store`, not yet started."""
        return Coordinator(settings or CoordinatorSettings(), store, self.directory, SystemIds())

    @asynccontextmanager
    async def running(
        self, store: Store, settings: CoordinatorSettings | None = None
    ) -> AsyncIterator[CoordinatorRuns]:
        """A coordinator in this process, for as long as the block lasts; gives the verbs on runs."""
        coordinator = self.coordinator(store, settings)
        await coordinator.start()
        try:
            yield CoordinatorRuns(coordinator, bytes_max=self.value_bytes_max)
        finally:
            await coordinator.stop()
