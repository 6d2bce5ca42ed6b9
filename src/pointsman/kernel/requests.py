"""What a body asks for: each request is either found in the log (replay) or produced (new).

A request is identified by its call id. In replay, the recorded requests of the cause that is being delivered are at
hand. One that is found is taken out and must match in target and input. One that is not found is new, and
`execution.py` decides whether anything may be new at this point. Either way the body gets a handle to await.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.copies import OUTCOME_BYTES_MIN, Copies, InputEvent
from pointsman.kernel.errors import (
    CallError,
    EventLimitReached,
    ForeignAwaitable,
    InvalidState,
    InvalidValue,
    NonDeterministicWorkflow,
    PointsmanError,
    RunEvicted,
    RunRestarting,
    StateFromFuture,
    UnknownAgent,
)
from pointsman.kernel.guard import LoopGuard
from pointsman.kernel.history import History, describe
from pointsman.kernel.people import Asking
from pointsman.kernel.pieces import INLINE_BYTES_MAX
from pointsman.kernel.policy.amounts import NOTHING, Budget
from pointsman.kernel.program import Directory, Signature, WorkflowSpec
from pointsman.kernel.scheduler import AT_ONCE, Scheduler
from pointsman.kernel.signals import Signals
from pointsman.kernel.spending import allowance
from pointsman.kernel.state import RunState
from pointsman.kernel.strands import Handle
from pointsman.kernel.typed_state import TypedState
from pointsman.kernel.values import digest
from pointsman.kernel.wanted import AS_USUAL, NO_DEFAULT, Wanted, special_of


class Produced(msgspec.Struct, frozen=True, gc=False):
    """A new event, to be appended; `data` is its full input, if it has one."""

    event: ev.Event
    at: int
    body: bytes
    data: bytes = b""


class Requests(Asking):
    """Matches the requests of a body with its log, and produces the new ones.

    Attributes:
        history: the log that is being replayed; None once the run is live.
        new: events produced and not yet taken for an append.
        copies: what a large input may be copied from; None until an input was large enough.
        signals: the signals that wait for the body, and the waits of the body for signals.
        given_bytes: size of the values that the body was given: its handles hold them until the generation is over.
        traffic: total bytes of values that went in or out; while it has hardly grown, the run's size has hardly
            changed.
    """

    def __init__(
        self, state: RunState, workflow: WorkflowSpec, directory: Directory, scheduler: Scheduler, events_max: int
    ) -> None:
        super().__init__(state, scheduler, directory)
        self.history: History | None = None
        self.new: list[Produced] = []
        self.copies: Copies | None = None
        self.given_bytes = self.traffic = 0
        self.given = NOTHING
        """In replay: what children of the cause being delivered were given; the state learns of it afterwards."""
        self.handles: dict[str, Handle[Any]] = {}
        self.defaults: dict[str, bytes] = {}
        """Results to go on with, of calls under way that name one."""
        self.children: dict[str, str] = {}
        """The run of each call of a workflow."""
        self.signals = Signals()
        self._workflow = workflow
        self._events_max = events_max
        turns, repeats = workflow.turns_max, workflow.repeats_max
        self.typed = None if workflow.state is None else TypedState(workflow.state)
        """The typed state, where the workflow declares one."""
        self._guard = None if turns is None and repeats is None else LoopGuard(turns, repeats)

    @property
    def copied_bytes(self) -> int:
        """Bytes held to be copied from."""
        return self.copies.size if self.copies is not None else 0

    # -- calls ---------------------------------------------------------------------------------------------------

    def start_call(
        self, call: str, asked: str, args: Sequence[Any], kwargs: Mapping[str, Any], wanted: Wanted = AS_USUAL
    ) -> Handle[Any]:
        self._check_room()
        if wanted is not AS_USUAL and (wanted.optional or wanted.default is not NO_DEFAULT):
            omitted = self.omitted(call, asked, wanted)
            if omitted is not None:
                return omitted
        target: str | None = asked
        agent = self._directory.agent(asked)
        if agent is None or self.recorded:
            target = self._reroute(call, asked)
            agent = self._directory.agent(target) if target is not None else None
        if target is None or (agent is None and self.history is None):
            return self._refuse(call, asked, wanted)
        if agent is None:
            raise self._break(NonDeterministicWorkflow(f"a call of agent {target!r}", "no agent of that name"))
        handle = self._enter(Handle(self, call, "agent", agent.signature))
        data = agent.signature.encode_input(args, kwargs)
        if self._guard is not None:
            self._guard.count(target, data)
        default = b""
        if self.recorded and isinstance(recorded := self._take(ev.CallRequested, call), ev.CallRequested):
            if recorded.target != target:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call} of agent {target!r}"))
            self._compare_input(recorded, data, agent.signature)
            default = bytes(recorded.default)
        else:
            event = ev.CallRequested(call, target, msgspec.Raw(data))
            if wanted is not AS_USUAL:
                default = b"" if wanted.default is NO_DEFAULT else agent.signature.encode_output(wanted.default)
                event = msgspec.structs.replace(event, **special_of(wanted, default))
            self.produce(event, self.now, data)
        if default:
            self.defaults[call] = default
        return handle

    def start_child(
        self, call: str, target: WorkflowSpec, args: Sequence[Any], kwargs: Mapping[str, Any],
        budget: Budget | None = None,
    ) -> Handle[Any]:  # fmt: skip
        self._check_room()
        handle = self._enter(Handle(self, call, "workflow", target.signature))
        data = target.signature.encode_input(args, kwargs)
        recorded = self._take(ev.ChildStarted, call)
        if isinstance(recorded, ev.ChildStarted):
            if recorded.workflow != target.name:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call} of {target.name!r}"))
            self._compare_input(recorded, data, target.signature)
        else:
            redrives = None if self.history is None else self.history.redrives
            key = self._state.key_of(call, redrives)
            child = f"{self._state.run[:100]}~{digest(key.encode())[:16]}"
            recorded = ev.ChildStarted(
                call=call, run=child, workflow=target.name, workflow_version=target.version, input=msgspec.Raw(data),
                budget=allowance(self._state, budget, target.budget, self.given),
            )  # fmt: skip
            self.produce(recorded, self.now, data)
        if self.history is not None and self._state.budget is not None and recorded.budget is not None:
            self.given += self._state.budget.share(recorded.budget)
        self.children[call] = recorded.run
        return handle

    def restart(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> NoReturn:
        self._check_open()
        if self.current.handle is not None:
            raise InvalidValue("run.restart inside a branch: let the branch end, and restart in the body itself")
        raise RunRestarting(self._workflow.signature.encode_input(args, kwargs))

    def cancel(self, handle: Handle[Any]) -> None:
        """Give up on a call, a timer, or the wait for a signal."""
        self._check_room()
        if handle.done:
            return
        if handle.kind in ("branch", "workflow"):
            raise InvalidValue(f"a {handle.kind} can't be cancelled by its handle; let it end, or signal it")
        if handle.call in self._state.calls:
            self.traffic += len(self._state.calls[handle.call].data)
        if self._take(ev.CallCancelled, handle.call) is None:
            self.produce(ev.CallCancelled(call=handle.call), self.now)
        self.signals.forget(handle.call)
        self.resolve(handle, error=CallError("cancelled", "given up by the workflow", call=handle.call))

    # -- time, signals ---------------------------------------------------------------------------------

    def set_timer(self, call: str, delay_ms: int) -> Handle[None]:
        self._check_room()
        handle: Handle[None] = self._enter(Handle(self, call, "timer"))
        if self._take(ev.TimerSet, call) is None:
            self.produce(ev.TimerSet(call=call, due=self._state.last_at + delay_ms), self.now)
        return handle

    def await_signal(self, call: str, name: str, expect: Any) -> Handle[Any]:
        self._check_room()
        handle = self._enter(Handle(self, call, "signal"))
        recorded = self._take(ev.SignalAwaited, call)
        if recorded is None:
            self.produce(ev.SignalAwaited(call=call, name=name), self.now)
        elif isinstance(recorded, ev.SignalAwaited) and recorded.name != name:
            raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call}: wait for signal {name!r}"))
        payload = self.signals.take(name)
        if payload is not None:
            self._read_signal(handle, payload, expect)
        else:
            self.signals.listen(call, name, expect)
        return handle

    def signal_arrived(self, name: str, payload: bytes) -> None:
        """Give a signal to the strand that has waited longest for its name, or keep it."""
        listener = self.signals.arrived(name, payload)
        if listener is not None:
            call, expect = listener
            self._read_signal(self.handles[call], payload, expect)

    def _read_signal(self, handle: Handle[Any], payload: bytes, expect: Any) -> None:
        self.given_bytes += len(payload)
        try:
            self.resolve(handle, self._directory.decode_as(expect, payload))
        except PointsmanError as error:
            self.resolve(handle, error=error)

    def state(self) -> Any:
        return self._declared().value()

    def set_state(self, call: str, value: Any, changes: Mapping[str, Any]) -> None:
        self._check_room()
        typed = self._declared()
        recorded = self._take(ev.StateSet, call)
        if isinstance(recorded, ev.StateSet):
            assert self.history is not None
            try:
                typed.stands(recorded, self.history, value, changes)
            except (InvalidState, StateFromFuture) as error:
                raise self._break(error) from error
            return
        data = typed.encoded(value, changes)
        self.produce(ev.StateSet(call, typed.version, msgspec.Raw(data)), self.now, data)
        typed.take(ev.KeptState(typed.version, msgspec.Raw(data)))

    def _declared(self) -> TypedState:
        if self.typed is None:
            raise InvalidValue("this workflow declares no state: @app.workflow(state=...) with a type for it")
        return self.typed

    def declare_plan(self, call: str, tasks: tuple[ev.PlannedTask, ...]) -> None:
        """Record a plan, before its first call and in answer to the same cause. Logs of releases without plans do not
        have it.
        """
        self._check_room()
        is_old = bool(self.recorded) and (ev.PlanDeclared, call) not in self.recorded
        if self._take(ev.PlanDeclared, call) is None and not is_old:
            self.produce(ev.PlanDeclared(call=call, tasks=tasks), self.now)

    # -- found or produced ----------------------------------------------------------------------------------------

    def produce(self, event: ev.Event, at: int, data: bytes = b"") -> None:
        """Produce a new event; `data` is its full input, if it has one."""
        if len(data) > INLINE_BYTES_MAX:
            event, body = self._in_pieces(event, data)
        else:
            body = ev.header_of(event)
        size = len(body)
        self.traffic += size
        self.new.append(Produced(event, at, body, data))
        if self.history is None:
            self._state.evolve(event, at, data)
        if size >= OUTCOME_BYTES_MIN or self.copies is not None:
            self._remember(event, body, data)

    def _in_pieces(self, event: ev.Event, data: bytes) -> tuple[ev.Event, bytes]:
        """Produce an event with a large input, cut into pieces, and its body."""
        assert isinstance(event, InputEvent)
        self.traffic += len(data)
        cut, tail = (self.copies or Copies()).cut(event, data)
        return cut, ev.encode_event(cut, tail)

    def _remember(self, event: ev.Event, body: bytes, data: bytes) -> None:
        """Note an event whose input later inputs may be copied from. In replay, new events follow all recorded ones."""
        self.copies = self.copies or Copies()
        sequence = self._state.sequence if self.history is None else self.history.sequence + len(self.new)
        self.copies.note(sequence, event, body, data)

    def _enter(self, handle: Handle[Any]) -> Handle[Any]:
        if self.handles.setdefault(handle.call, handle) is not handle:
            raise InvalidValue(f"call id {handle.call!r} was used before in this run; give another key=")
        return handle

    def _check_room(self) -> None:
        if self.is_interrupted:
            self._check_open()
        if not self._scheduler.is_running:
            raise ForeignAwaitable(f"a task of asyncio's used the run, which no replay would repeat: {AT_ONCE}")
        state = self._state
        if state.sequence - state.base >= self._events_max - 1 and self.history is None:
            raise EventLimitReached(
                f"generation {state.generation} of run {state.run} has {state.length} events, and "
                f"the limit is {self._events_max}: end long loops in run.restart(...), split the work into child runs, "
                "or raise events_max"
            )

    def _break(self, error: PointsmanError) -> BaseException:
        """Break off, because code and log disagree: unwind the body with an exception that `except Exception` does not
        catch.
        """
        self.break_off(error)
        return RunEvicted("the workflow's code does not fit its log")

    def _reroute(self, call: str, asked: str) -> str | None:
        """The agent that a name leads to: the agent itself; the generalist if there is none of that name; or None."""
        recorded = self._take(ev.AgentRerouted, call)
        if isinstance(recorded, ev.AgentRerouted):
            return recorded.agent
        if (ev.CallRefused, call) in self.recorded:
            return None
        if self._directory.agent(asked) is not None or (ev.CallRequested, call) in self.recorded:
            return asked
        generalist = self._directory.generalist()
        if generalist is not None:
            reason = f"no agent is named {asked!r}"
            self.produce(ev.AgentRerouted(call=call, asked=asked, agent=generalist, reason=reason), self.now)
        return generalist

    def _refuse(self, call: str, asked: str, wanted: Wanted) -> Handle[Any]:
        message = (
            f"no agent is named {asked!r}, and the app names no generalist: check the name, or set App(generalist=)"
        )
        if self._take(ev.CallRefused, call) is None:
            failure = ev.Failure("unknown_agent", message, retryable=False)
            self.produce(ev.CallRefused(call=call, asked=asked, failure=failure), self.now)
        handle = self._enter(Handle(self, call, "agent"))
        if wanted.default is NO_DEFAULT:
            self.resolve(handle, error=UnknownAgent(message))
        else:
            self.resolve(handle, wanted.default)
        return handle

    def _compare_input(self, recorded: ev.CallRequested | ev.ChildStarted, data: bytes, signature: Signature) -> None:
        """Compare an input with recorded bytes that differ. Values that are equal under today's schema are equal; a
        real difference matters only while the call is pending.
        """
        if ev.same_bytes(recorded, data):
            return
        assert self.history is not None
        before = self.history.input_of(type(recorded), recorded.call)
        if signature.same_input(before, data):
            return
        if self.history.has_outcome(recorded.call):
            self.history.warnings.append(
                f"{recorded.call}: the code now sends another input; the recorded outcome stands"
            )
            return
        shown = f"{describe(recorded)} with input {before[:200]!r}"
        raise self._break(NonDeterministicWorkflow(shown, f"input {data[:200]!r} for the same pending call"))
