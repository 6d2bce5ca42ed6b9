"""The agent directory: which agents and workflows there are, which agent can do what, and which can't just now.

The app's own agents and workflows are given once; the agents that registered themselves, and how all of them are, come
from their records (`apply`), in the same loop that reads here. Nothing here waits for anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.agents.agent import Agent
from pointsman.agents.card import PULL, Card
from pointsman.agents.record import AgentRecord
from pointsman.agents.schema import SchemaSignature
from pointsman.agents.shape import shape_of
from pointsman.agents.signature import decode_as
from pointsman.agents.workflow import Workflow
from pointsman.kernel.errors import InvalidInput, InvalidValue
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.modes import FULL
from pointsman.kernel.program import Selection, Shape
from pointsman.kernel.values import VALUE_BYTES_MAX
from pointsman.ports.agents import AgentDeclared, InvalidCard
from pointsman.ports.ownership import Definition

logger = logging.getLogger("pointsman.agents")


class AgentDirectory:
    """Implements `kernel.program.Directory`.

    Attributes:
        now: the database's clock in ms, for `select`; a directory whose agents never change needs none.
        mode: of the cluster. Set by who follows it.

    Raises:
        ValueError: the generalist is not an agent of the app.
    """

    def __init__(
        self, agents: Iterable[Agent], workflows: Iterable[Workflow], generalist: str | None,
        *, bytes_max: int = VALUE_BYTES_MAX,
    ) -> None:  # fmt: skip
        self.now: Callable[[], int] = lambda: 0
        self.mode = FULL
        self._own = {agent.name: agent for agent in agents}
        self._agents = dict(self._own)
        """Those too that registered and that the app does not have itself."""
        self.agent: Callable[[str], Agent | None] = self._agents.get
        """The app's own, else one that registered, also when it has left: runs that called it must still replay."""
        self._records: dict[str, AgentRecord] = {}
        self._with_problem: dict[str, AgentRecord] = {}
        """Those of the records that may be a problem: almost none, and `problem` is asked at every dispatch."""
        self._workflows = {(workflow.name, workflow.version): workflow for workflow in workflows}
        self._newest = dict(sorted(self._workflows))
        self._generalist = generalist
        self._bytes_max = bytes_max
        if generalist is not None and generalist not in self._own:
            raise ValueError(f"generalist={generalist!r} is not a registered agent; the agents are {sorted(self._own)}")

    # -- what changes ---------------------------------------------------------------------------------------------

    def apply(self, records: Mapping[str, AgentRecord]) -> None:
        """Records as their streams have them now, by the name of the agent; each takes the place of the one before."""
        for name, record in records.items():
            self._records[name] = record
            if record.may_have_problem():
                self._with_problem[name] = record
            else:
                self._with_problem.pop(name, None)
            if record.card is not None and name not in self._own:
                self._admit(name, record.card)

    def _admit(self, name: str, card: Card) -> None:
        known = self._agents.get(name)
        if known is not None and known.described == card:
            return
        try:
            self._agents[name] = self.build(card)
        except InvalidCard as error:  # recorded by a release that takes more than this one
            logger.warning("agent %s can't be used here: %s", name, error)

    def build(self, card: Card) -> Agent:
        """The agent that a service describes.

        Raises:
            InvalidCard: a schema of it can't be used.
            AgentDeclared: the app has an agent of this name.
        """
        self.check_free(card.name)
        return Agent(card, SchemaSignature(card.name, card.input_schema, card.output_schema, bytes_max=self._bytes_max))

    def check_free(self, name: str) -> None:
        """May a service have this name? Raises AgentDeclared: the app has an agent of that name, and its own counts."""
        if name in self._own:
            raise AgentDeclared(f"the app itself has an agent {name!r}; register yours under another name")

    # -- agents -----------------------------------------------------------------------------------------------------

    def agents(self) -> list[Agent]:
        """All of them, those that have left too; by name after the app's own."""
        return [*self._own.values(), *(agent for name, agent in sorted(self._agents.items()) if name not in self._own)]

    def record(self, name: str) -> AgentRecord | None:
        """What is recorded of it. Not to be changed."""
        return self._records.get(name)

    def is_own(self, name: str) -> bool:
        """Does the app itself have it?"""
        return name in self._own

    def is_own_pull(self, name: str) -> bool:
        """Does the app itself say that workers fetch this agent's calls? Then its card counts, and workers may come."""
        own = self._own.get(name)
        return own is not None and own.transport == PULL

    def problem(self, name: str, now: int) -> Failure | None:
        """See `kernel.program.Directory`."""
        agent = self._agents.get(name)
        if agent is None:
            return Failure("unknown_agent", f"there is no agent {name!r}", retryable=False)
        record = self._with_problem.get(name)
        if record is None:
            return None
        return record.problem(name, now, is_own=name in self._own, breaker=agent.described.breaker)

    def fits(self, name: str, data: bytes) -> bool:
        """See `kernel.program.Directory`."""
        agent = self.agent(name)
        if agent is None:
            return False
        try:
            agent.signature.check_input(data)
        except (InvalidInput, InvalidValue):
            return False
        return True

    def check_event(self, event: str, data: bytes, *, unless: str) -> None:
        """Whoever subscribes to this event can take this data, as far as it is known what they take; or another agent
        in their place, or somebody subscribes to their failure, the event `unless`.

        Raises:
            InvalidInput: of which subscriber, and where it does not fit.
        """
        now = self.now()
        for name in () if self.subscribers(unless, now) else self.subscribers(event, now):
            agent = self.agent(name)
            if agent is None:
                continue
            try:
                wanted = agent.signature.encode_input((msgspec.Raw(data),), {})
                agent.signature.check_input(wanted)
            except InvalidInput as error:
                if not any(self.fits(other, wanted) for other in self.chain(name)):
                    raise InvalidInput(f"{event}: its subscriber {name} can't take it: {error}") from error

    def chain(self, name: str) -> tuple[str, ...]:
        """See `kernel.program.Directory`."""
        agent = self.agent(name)
        if agent is not None and agent.fallback is not None:
            return agent.fallback
        return (self._generalist,) if self._generalist not in (None, name) else ()

    def select(self, needs: Sequence[str]) -> Selection | None:
        """The most specialised agent that can do all of it: fewest capabilities first, then by name."""
        now = self.now()
        able = [agent for agent in self.agents() if needs and all(need in agent.capabilities for need in needs)]
        able.sort(key=lambda agent: (len(agent.capabilities), agent.name))
        wanted = ", ".join(needs)
        passed_over: list[str] = []
        for agent in able:
            problem = self.problem(agent.name, now)
            if problem is None:
                return Selection(agent.name, f"can do {wanted}{_passed(passed_over)}")
            passed_over.append(problem.message)
        if self._generalist is None or self.problem(self._generalist, now) is not None:
            return None
        who = "nobody who can do" if able else "nobody can do"
        ending = " can take it now" if able else ""
        return Selection(self._generalist, f"{who} {wanted}{ending}: the generalist{_passed(passed_over)}")

    def generalist(self) -> str | None:
        return self._generalist

    def subscribers(self, event: str, now: int) -> tuple[str, ...]:
        """See `kernel.program.Directory`."""
        found = [agent.name for agent in self.agents() if event in agent.described.on]
        return tuple(name for name in found if not self._has_left(name, now))

    def _has_left(self, name: str, now: int) -> bool:
        problem = self.problem(name, now)
        return problem is not None and problem.kind == "departed"

    # -- workflows, types ---------------------------------------------------------------------------------------------

    def workflow(self, name: str, version: int | None = None) -> Workflow | None:
        return self._workflows.get((name, self._newest.get(name, 0) if version is None else version))

    def definitions(self) -> list[Definition]:
        return [Definition(w.name, w.version, w.build) for w in self._workflows.values()]

    def shape(self, expected: Any) -> Shape:
        """See `kernel.program.Directory`."""
        return shape_of(expected)

    def decode_as(self, expected: Any, data: bytes) -> Any:
        return decode_as(expected, data)


def _passed(reasons: Sequence[str]) -> str:
    return f"; passed over: {'; '.join(reasons)}" if reasons else ""
