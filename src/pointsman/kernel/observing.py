"""What a body observes of the cluster: whom it may select, and the mode. Each look is recorded, so a replay sees the
same whatever the cluster is like by then.

A look that found the mode full and went on as usual is not recorded as such: what the body asked for then says it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import CallError, NonDeterministicWorkflow, PointsmanError
from pointsman.kernel.history import describe
from pointsman.kernel.policy.modes import FULL, omits
from pointsman.kernel.program import AgentSpec, Directory
from pointsman.kernel.scheduler import Scheduler
from pointsman.kernel.selecting import choose
from pointsman.kernel.state import RunState
from pointsman.kernel.strands import Handle
from pointsman.kernel.values import encode
from pointsman.kernel.waiting import Waiting
from pointsman.kernel.wanted import NO_DEFAULT, Wanted

ASKED = (ev.CallRequested, ev.AgentRerouted, ev.CallRefused)
"""One of these is recorded of a call that was asked for as usual."""


class Observing(Waiting):
    """The part of `Requests` that looks at the cluster.

    Attributes:
        recorded: in replay, the requests of the cause being delivered that the body has not made yet.
        now: the time of that cause (ms).
    """

    def __init__(self, state: RunState, scheduler: Scheduler, directory: Directory) -> None:
        super().__init__(state, scheduler)
        self.recorded: dict[tuple[type[ev.Event], str], ev.Event] = {}
        self.now = 0
        self._directory = directory

    @abstractmethod
    def produce(self, event: ev.Event, at: int, data: bytes = b"") -> None: ...
    @abstractmethod
    def _check_room(self) -> None: ...
    @abstractmethod
    def _enter(self, handle: Handle[Any]) -> Handle[Any]: ...
    @abstractmethod
    def _break(self, error: PointsmanError) -> BaseException: ...

    def _take(self, event_type: type[ev.Event], call: str) -> ev.Event | None:
        return self.recorded.pop((event_type, call), None)

    def _is_asked(self, call: str) -> bool:
        """Does the log say that this call was asked for?"""
        return any((kind, call) in self.recorded for kind in ASKED)

    def read_mode(self, call: str) -> str:
        self._check_room()
        recorded = self._take(ev.ModeRead, call)
        if not isinstance(recorded, ev.ModeRead):
            recorded = ev.ModeRead(call=call, mode=self._directory.mode)
            self.produce(recorded, self.now)
        return recorded.mode

    def asks_nobody(self, call: str, by: str) -> bool:
        """Is this selection made without asking its selector, whose own call would be `by`? When the mode is not full,
        and in replay when the log has the selection itself."""
        if self._is_asked(by):
            return False
        return (ev.AgentSelected, call) in self.recorded or self._directory.mode != FULL

    def select(
        self, call: str, needs: tuple[str, ...], named: str | None = None, why: str = "", default: str = ""
    ) -> str | None:
        """`named`: whom a selector chose; `why`: who chose, or why nobody did; `default`: see `Run.select`."""
        self._check_room()
        self.deliver_cancel()
        recorded = self._take(ev.AgentSelected, call)
        if isinstance(recorded, ev.AgentSelected):
            if recorded.needs != needs:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"select for {', '.join(needs)}"))
            return recorded.agent or None
        agent, reason = choose(self._directory, needs, named, why, self.now, default)
        self.produce(ev.AgentSelected(call=call, agent=agent, reason=reason, needs=needs), self.now)
        return agent or None

    def subscribers(self, call: str, event: str, by: str) -> tuple[str, ...]:
        """Who subscribes to an event that was emitted in the call `by`."""
        self._check_room()
        recorded = self._take(ev.AgentsTriggered, call)
        if isinstance(recorded, ev.AgentsTriggered):
            if recorded.event != event:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"event {event!r}"))
            return recorded.agents
        agents = self._directory.subscribers(event, self.now)
        self.produce(ev.AgentsTriggered(call=call, event=event, by=by, agents=agents), self.now)
        return agents

    def omitted(self, call: str, asked: str, wanted: Wanted) -> Handle[Any] | None:
        """The declared answer in place of a call, where the mode has it so; where none is declared, its failure. None:
        the call is made."""
        recorded = self._take(ev.CallOmitted, call)
        agent = self._directory.agent(asked)
        if not isinstance(recorded, ev.CallOmitted):
            mode = self._directory.mode
            if not omits(mode, wanted.optional) or self._is_asked(call):
                return None
            encoded = encode if agent is None else agent.signature.encode_output
            output = ev.ABSENT if wanted.default is NO_DEFAULT else msgspec.Raw(encoded(wanted.default))
            recorded = ev.CallOmitted(call=call, asked=asked, mode=mode, output=output, optional=wanted.optional)
            self.produce(recorded, self.now)
        handle = self._enter(Handle(self, call, "agent"))
        self._give(handle, bytes(recorded.output), recorded, agent)
        return handle

    def _give(self, handle: Handle[Any], output: bytes, omitted: ev.CallOmitted, agent: AgentSpec | None) -> None:
        if not output:
            message = f"{omitted.asked} is not asked for {omitted.optional}: the mode is {omitted.mode}"
            self.resolve(handle, error=CallError("omitted", message, call=omitted.call, target=omitted.asked))
            return
        try:
            value = agent.signature.decode_output(output) if agent is not None else msgspec.json.decode(output)
        except PointsmanError:  # the author chose one that is not of the agent's type
            value = msgspec.json.decode(output)
        self.resolve(handle, value)
