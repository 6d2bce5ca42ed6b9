"""The agent directory: which agents and workflows there are, and which agent can do what. Filled once, then read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pointsman.agents.agent import Agent
from pointsman.agents.signature import decode_as
from pointsman.agents.workflow import Workflow
from pointsman.kernel.program import Selection
from pointsman.ports.ownership import Definition


class AgentDirectory:
    """Implements `kernel.program.Directory`."""

    def __init__(self, agents: Iterable[Agent], workflows: Iterable[Workflow], generalist: str | None) -> None:
        self._agents = {agent.name: agent for agent in agents}
        self._workflows = {(workflow.name, workflow.version): workflow for workflow in workflows}
        self._newest = dict(sorted(self._workflows))
        self._generalist = generalist
        if generalist is not None and generalist not in self._agents:
            raise ValueError(
                f"generalist={generalist!r} is not a registered agent; the agents are {sorted(self._agents)}"
            )

    def agent(self, name: str) -> Agent | None:
        return self._agents.get(name)

    def agents(self) -> list[Agent]:
        return list(self._agents.values())

    def workflow(self, name: str, version: int | None = None) -> Workflow | None:
        return self._workflows.get((name, self._newest.get(name, 0) if version is None else version))

    def definitions(self) -> list[Definition]:
        return [Definition(w.name, w.version, w.build) for w in self._workflows.values()]

    def generalist(self) -> str | None:
        return self._generalist

    def select(self, needs: Sequence[str]) -> Selection | None:
        """The most specialised agent that can do all of it: fewest capabilities first, then by name."""
        able = [a for a in self._agents.values() if needs and all(need in a.capabilities for need in needs)]
        wanted = ", ".join(needs)
        if able:
            best = min(able, key=lambda agent: (len(agent.capabilities), agent.name))
            return Selection(best.name, f"can do {wanted}")
        if self._generalist is not None:
            return Selection(self._generalist, f"nobody can do {wanted}: the generalist")
        return None

    def decode_as(self, expected: Any, data: bytes) -> Any:
        return decode_as(expected, data)
