"""The environment for tests that are plain functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from pointsman.agents.agent import Agent
from pointsman.agents.workflow import Workflow
from pointsman.app import App
from pointsman.kernel.events import Recorded
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.human_tasks import HumanTask
from pointsman.ports.runs import RunView
from pointsman.testing.environment.scripts import AgentCall, Script
from pointsman.testing.environment.world import World, abandon, name_of, seconds_of

STARTS_AT = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 30.0


class SyncWorkflowEnvironment:
    """`WorkflowEnvironment` without `async`: `with SyncWorkflowEnvironment(app) as env: env.run(...)`. Every method is
    the one of the same name there, and blocks."""

    def __init__(
        self, app: App, *, starts_at: datetime = STARTS_AT, seed: int = 0, patience: float = PATIENCE_S
    ) -> None:  # fmt: skip
        started_ms = round(starts_at.timestamp() * 1000)
        self._world = World(app, started_ms=started_ms, seed=seed, patience_s=patience)

    def __enter__(self) -> Self:
        self._world.open().result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            abandon(self._world)
            return
        self._world.close().result()
        if self._world.scripts.overrun is not None:
            raise self._world.scripts.overrun

    def script(self, agent: str | Agent, script: Script) -> None:
        self._world.scripts.set(name_of(agent), script, self._world.app.directory)

    def calls(self, agent: str | Agent | None = None) -> list[AgentCall]:
        return [call for call in self._world.scripts.calls if agent is None or call.agent == name_of(agent)]

    def run(self, workflow: str | Workflow, input: Any = None, **options: Any) -> Any:  # noqa: A002  the API's word
        return self.result(self.start(workflow, input, **options))

    def start(
        self, workflow: str | Workflow, input: Any = None, *, id: str | None = None, version: int | None = None,  # noqa: A002
        tenant: str = "default", attributes: dict[str, Any] | None = None, budget: Budget | None = None,
    ) -> str:  # fmt: skip
        wish = self._world.start(
            workflow, input, run=id, version=version, tenant=tenant, attributes=attributes or {}, budget=budget
        )
        return self._world.submit(wish).result()

    def result(self, run: str) -> Any:
        return self._world.submit(self._world.result(run)).result()

    def signal(self, run: str, name: str, payload: Any = None, *, key: str | None = None) -> None:
        self._world.submit(self._world.signal(run, name, payload, key)).result()

    def cancel(self, run: str, reason: str = "") -> None:
        self._world.submit(self._world.cancel(run, reason)).result()

    def tasks(self, run: str | None = None) -> Sequence[HumanTask]:
        return self._world.submit(self._world.tasks(run)).result()

    def answer(self, run: str, value: Any, *, by: str = "a person") -> None:
        self._world.submit(self._world.answer(run, value, by)).result()

    def refuse(self, run: str, reason: str = "", *, by: str = "a person") -> None:
        self._world.submit(self._world.refuse(run, reason, by)).result()

    def sleep(self, duration: float | timedelta) -> None:
        self._world.submit(self._world.sleep(seconds_of(duration))).result()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._world.clock.now() / 1000, UTC)

    def view(self, run: str) -> RunView:
        return self._world.submit(self._world.view(run)).result()

    def events(self, run: str) -> list[tuple[str, Any]]:
        return self._world.submit(self._world.events(run)).result()

    def history(self, run: str) -> list[Recorded]:
        return self._world.submit(self._world.history(run)).result()
