"""The environment for tests that are coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar

from pointsman.agents.agent import Agent
from pointsman.agents.workflow import Workflow
from pointsman.app import App
from pointsman.kernel.events import Recorded
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.human_tasks import HumanTask
from pointsman.ports.runs import RunView
from pointsman.testing.environment.blocking import PATIENCE_S, STARTS_AT
from pointsman.testing.environment.scripts import AgentCall, Script
from pointsman.testing.environment.world import World, abandon, name_of, seconds_of

T = TypeVar("T")


class WorkflowEnvironment:
    """An app under test: the real coordinator and kernel on a store in memory, in time that is skipped.

    `async with WorkflowEnvironment(app) as env: result = await env.run("triage", {...})`. A sleep of a week takes
    milliseconds: where every run rests, the next moment at which something is due is now. Time passes only while the
    test waits for something. The environment has a thread and an event loop of its own.

    Args:
        starts_at: the time at which it begins.
        seed: run ids, jitter and `run.random()` follow from it.
        patience: seconds of the machine's time after which a run that is still at work is given up.
    """

    def __init__(
        self, app: App, *, starts_at: datetime = STARTS_AT, seed: int = 0, patience: float = PATIENCE_S
    ) -> None:  # fmt: skip
        started_ms = round(starts_at.timestamp() * 1000)
        self._world = World(app, started_ms=started_ms, seed=seed, patience_s=patience)

    async def __aenter__(self) -> Self:
        await asyncio.wrap_future(self._world.open())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises ScriptEnded: an agent was called more often than its script says, and no `result` told so."""
        if error is not None:
            await asyncio.to_thread(abandon, self._world)
            return
        await asyncio.wrap_future(self._world.close())
        if self._world.scripts.overrun is not None:
            raise self._world.scripts.overrun

    async def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(self._world.submit(work))

    # -- agents ---------------------------------------------------------------------------------------------------

    def script(self, agent: str | Agent, script: Script) -> None:
        """What an agent does from now on, in place of its own code.

        Args:
            script: a list, one step for each attempt in order: a value is its result (checked against its schema, as
                ever), an exception is raised, a function is called with the input, `Timeout()` never answers,
                `After(seconds, step)` takes so long. Or a function that is called with the input every time.

        Raises:
            UnknownAgent. TypeError: it is neither.
        """
        self._world.scripts.set(name_of(agent), script, self._world.app.directory)

    def calls(self, agent: str | Agent | None = None) -> list[AgentCall]:
        """Every attempt so far, of all agents or of one, scripted or not."""
        return [call for call in self._world.scripts.calls if agent is None or call.agent == name_of(agent)]

    # -- runs -----------------------------------------------------------------------------------------------------

    async def run(self, workflow: str | Workflow, input: Any = None, **options: Any) -> Any:  # noqa: A002  the API's word
        """`start` and `result`. Raises as these."""
        return await self.result(await self.start(workflow, input, **options))

    async def start(
        self, workflow: str | Workflow, input: Any = None, *, id: str | None = None, version: int | None = None,  # noqa: A002
        tenant: str = "default", attributes: dict[str, Any] | None = None, budget: Budget | None = None,
    ) -> str:  # fmt: skip
        """Start a run. Returns its id.

        Args:
            input: anything that the workflow takes: a model, a dataclass, plain data.

        Raises:
            UnknownWorkflow, InvalidInput, InvalidValue, RunConflict.
        """
        wish = self._world.start(
            workflow, input, run=id, version=version, tenant=tenant, attributes=attributes or {}, budget=budget
        )
        return await self._do(wish)

    async def result(self, run: str) -> Any:
        """What the run gives, as its workflow declares it, whatever time it takes.

        Raises:
            RunNotCompleted: it failed, was cancelled or stopped, or waits for somebody; the message says which.
            ScriptEnded: an agent was called more often than its script has steps.
        """
        return await self._do(self._world.result(run))

    async def signal(self, run: str, name: str, payload: Any = None, *, key: str | None = None) -> None:
        """Send a signal. Raises: UnknownRun, RunEnded."""
        await self._do(self._world.signal(run, name, payload, key))

    async def cancel(self, run: str, reason: str = "") -> None:
        """Ask a run to stop. Raises: UnknownRun, RunEnded."""
        await self._do(self._world.cancel(run, reason))

    async def view(self, run: str) -> RunView:
        """The run as it is at this moment. Raises UnknownRun."""
        return await self._do(self._world.view(run))

    async def events(self, run: str) -> list[tuple[str, Any]]:
        """Its log: the type and the plain data of each event. Raises UnknownRun."""
        return await self._do(self._world.events(run))

    async def history(self, run: str) -> list[Recorded]:
        """Its log as it is stored: what `pointsman.testing.replay` saves and replays. Raises UnknownRun."""
        return await self._do(self._world.history(run))

    # -- people ---------------------------------------------------------------------------------------------------

    async def tasks(self, run: str | None = None) -> Sequence[HumanTask]:
        """Questions to people that are open, of all runs or of one, once every run rests."""
        return await self._do(self._world.tasks(run))

    async def answer(self, run: str, value: Any, *, by: str = "a person") -> None:
        """Answer the one question of a run. Raises: AssertionError: it has none, or several. InvalidInput."""
        await self._do(self._world.answer(run, value, by))

    async def refuse(self, run: str, reason: str = "", *, by: str = "a person") -> None:
        """Say that there will be no answer. Raises AssertionError as `answer`."""
        await self._do(self._world.refuse(run, reason, by))

    # -- time -----------------------------------------------------------------------------------------------------

    async def sleep(self, duration: float | timedelta) -> None:
        """Let so much time pass (seconds, or a timedelta), with all that is due in it. Raises ValueError."""
        await self._do(self._world.sleep(seconds_of(duration)))

    def now(self) -> datetime:
        """The environment's time."""
        return datetime.fromtimestamp(self._world.clock.now() / 1000, UTC)
