"""The execution of one run: its body, driven from the log, and the log, continued from its body.

The law of replay, which is also the law of the live run:
1. A *cause* is delivered to the body, which then runs until every strand of it waits.
2. What the body asked for meanwhile are the *requests* of that cause. In the log they follow it directly, before the next
   cause. So in replay the recorded requests of a cause are known before it is delivered, and each request of the body must
   be among them, by call id and target; none may be left over.
3. After the last recorded cause, what the body asks for and the log does not have is new.
4. *Notes* between them change the folded state and are invisible to the body.
The one exception is the terminal event: mail that arrives while it is on its way is recorded before it.

A pure function of (program, events so far, now), in the shape of an object, because a coroutine can't be copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.kernel import entropy
from pointsman.kernel import events as ev
from pointsman.kernel.errors import (
    CallError,
    ChildError,
    EventLimitReached,
    ForeignAwaitable,
    NonDeterministicWorkflow,
    PointsmanError,
    RunCancelled,
    RunEvicted,
    UnknownAgent,
)
from pointsman.kernel.history import History, describe
from pointsman.kernel.policy.retry import next_delay_ms
from pointsman.kernel.program import Directory, WorkflowSpec
from pointsman.kernel.run import Run
from pointsman.kernel.state import RunState
from pointsman.kernel.strands import Handle, Strand, Wait
from pointsman.kernel.values import digest

EVENTS_MAX = 50_000
"""Default limit of events in one generation of a run."""


class Produced(msgspec.Struct, frozen=True):
    """A new event, to be appended; `data` is the full input of an event that has one."""

    event: ev.Event
    at: int
    body: bytes
    data: bytes = b""


class Execution:
    """See the module. Not re-entrant; owned by whoever owns the run.

    Attributes:
        state: the folded state, including events that are produced and not yet appended.
        ending: the terminal event, once the body is over and until `close_log` has taken it.
        warnings: what a replay noticed and let pass.
    """

    def __init__(
        self, run: str, workflow: WorkflowSpec, directory: Directory, *, events_max: int = EVENTS_MAX
    ) -> None:
        self.state = RunState(run=run)
        self.ending: ev.Event | None = None
        self.warnings: list[str] = []
        self.current: Strand
        self._workflow = workflow
        self._directory = directory
        self._events_max = events_max
        self._strands: list[Strand] = []
        self._ready: deque[Strand] = deque()
        self._handles: dict[str, Handle[Any]] = {}
        self._awaited: dict[str, tuple[str, Any]] = {}
        self._signals: dict[str, deque[bytes]] = {}
        self._order = 0
        self._now = 0
        self._new: list[Produced] = []
        self._recorded: dict[tuple[type[ev.Event], str], ev.Event] = {}
        self._history: History | None = None
        self._broken: PointsmanError | None = None
        self._is_closing = False
        self._is_over = False

    # -- the two ways in -----------------------------------------------------------------------------------------

    def begin(self, started: ev.RunStarted, data: bytes, now: int) -> None:
        """A new run: its first event is `started`, with `data` as its input."""
        self._cause(started, now, data)

    def replay(self, recorded: Iterable[ev.Recorded]) -> None:
        """Bring a run back from its log. New requests of the last cause, if any, are produced.

        Raises:
            NonDeterministicWorkflow, UnknownEvent, CorruptLog, InvalidInput: the run can't be driven by this code.
        """
        history = History(self.state.run, list(recorded))
        self._history = history
        for group in history.groups():
            if group.cause is not None:
                self._recorded = group.requests
                self._advance(group.cause.event, group.cause.at, group.cause.data)
                if self._recorded:
                    left = next(iter(self._recorded.values()))
                    raise NonDeterministicWorkflow(describe(left), "nothing of the kind at this point")
                if self._new and not group.is_last:
                    raise NonDeterministicWorkflow("nothing of the kind at this point", describe(self._new[0].event))
            for entry in group.entries:
                self.state.evolve(entry.event, entry.at, entry.data)
        self._history = None
        if history.terminal is not None:
            self._check_end(history.terminal)
        for produced in self._new:
            self.state.evolve(produced.event, produced.at, produced.data)

    # -- what happens to a run -----------------------------------------------------------------------------------

    def completed(self, call: str, attempt: int, output: bytes, now: int) -> bool:
        """An attempt gave a result. False: nobody waits for it any more."""
        if not self._is_current(call, attempt):
            return False
        self._cause(ev.CallCompleted(call=call, output=msgspec.Raw(output), attempt=attempt), now)
        return True

    def attempt_failed(self, call: str, attempt: int, failure: ev.Failure, now: int) -> bool:
        """An attempt failed: the policy decides whether another follows. False: nobody waits for it any more."""
        if not self._is_current(call, attempt):
            return False
        agent = self._directory.agent(self.state.calls[call].target)
        noise = entropy.random_float(self.state.seed, f"retry/{call}/{attempt}")
        delay = None if agent is None else next_delay_ms(agent.retry, attempt, failure, noise)
        if delay is None:
            self._cause(ev.CallFailed(call=call, failure=failure, attempt=attempt), now)
        else:
            self._note(ev.AttemptFailed(call=call, attempt=attempt, failure=failure, retry_at=now + delay), now)
        return True

    def time_passed(self, now: int) -> None:
        """Fire the timers that are due and start the attempts whose time has come, earliest first."""
        due = [(when, call) for call, when in self.state.timers.items() if when <= now]
        due += [(p.retry_at, call) for call, p in self.state.calls.items() if p.retry_at and p.retry_at <= now]
        for _, call in sorted(due):
            if call in self.state.timers:
                self._cause(ev.TimerFired(call=call), now)
            elif (pending := self.state.calls.get(call)) is not None:
                self._note(ev.CallRetried(call=call, attempt=pending.attempt + 1), now)

    def mailed(self, event: ev.SignalReceived | ev.ChildEnded | ev.CancelRequested, now: int) -> bool:
        """Fold one mail in. False: it was folded before."""
        if event.mail <= self.state.folded or self.state.is_ended:
            return False
        self._cause(event, now)
        return True

    def take(self) -> list[Produced]:
        """What is new since the last time, in the order to append."""
        new, self._new = self._new, []
        return new

    def peek(self) -> Sequence[Produced]:
        """What `take` would give."""
        return self._new

    def close_log(self, now: int) -> None:
        """Produce the terminal event; nothing may follow it."""
        if self.ending is not None:
            ending, self.ending = self.ending, None
            self._produce(ending, now)

    def close(self) -> None:
        """Let the run leave memory. The author's `finally` runs and nothing that it does counts."""
        self._is_closing = True
        strands, self._strands = self._strands, []
        for strand in strands:
            self.current = strand
            strand.close()

    @property
    def size(self) -> int:
        """Rough bytes in memory, for the coordinator's budget: 4.5 KB for a waiting run (measured), and its payloads."""
        payloads = sum(len(pending.data) for pending in self.state.calls.values())
        return 4_500 + payloads + sum(len(p) for queue in self._signals.values() for p in queue)

    # -- requests of the body ------------------------------------------------------------------------------------

    def start_call(self, call: str, asked: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Handle[Any]:
        self._check_open()
        target = self._reroute(call, asked)
        agent = self._directory.agent(target) if target is not None else None
        if target is None or (agent is None and self._history is None):
            return self._refuse(call, asked)
        handle = self._handle(call, "agent")
        if agent is None:
            raise self._break(NonDeterministicWorkflow(f"a call of agent {target!r}", "no agent of that name"))
        data = agent.signature.encode_input(args, kwargs)
        recorded = self._take_recorded(ev.CallRequested, call)
        if isinstance(recorded, ev.CallRequested):
            if recorded.target != target:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call} of agent {target!r}"))
            self._compare_input(recorded, data, agent.signature)
        else:
            key = f"{self.state.run}/{self.state.generation}/{call}"
            event, tail = ev.with_input(ev.CallRequested, data, call=call, target=target, key=key, digest=digest(data))
            self._produce(event, self._now, data, tail)
        self._awaited[call] = ("agent", agent.signature)
        return handle

    def start_child(
        self, call: str, target: WorkflowSpec, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Handle[Any]:
        self._check_open()
        handle = self._handle(call, "workflow")
        data = target.signature.encode_input(args, kwargs)
        recorded = self._take_recorded(ev.ChildStarted, call)
        if isinstance(recorded, ev.ChildStarted):
            if recorded.workflow != target.name:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call} of {target.name!r}"))
            self._compare_input(recorded, data, target.signature)
        else:
            name = f"{self.state.run}/{self.state.generation}/{call}"
            event, tail = ev.with_input(
                ev.ChildStarted, data, call=call, run=f"{self.state.run[:100]}~{digest(name.encode())[:16]}",
                workflow=target.name, workflow_version=target.version, digest=digest(data),
            )  # fmt: skip
            self._produce(event, self._now, data, tail)
        self._awaited[call] = ("workflow", target.signature)
        return handle

    def set_timer(self, call: str, delay_ms: int) -> Handle[None]:
        self._check_open()
        handle = self._handle(call, "timer")
        if self._take_recorded(ev.TimerSet, call) is None:
            self._produce(ev.TimerSet(call=call, due=self.state.last_at + delay_ms), self._now)
        return handle

    def await_signal(self, call: str, name: str, expect: Any) -> Handle[Any]:
        self._check_open()
        handle = self._handle(call, "signal")
        recorded = self._take_recorded(ev.SignalAwaited, call)
        if recorded is None:
            self._produce(ev.SignalAwaited(call=call, name=name), self._now)
        elif isinstance(recorded, ev.SignalAwaited) and recorded.name != name:
            raise self._break(NonDeterministicWorkflow(describe(recorded), f"{call}: wait for signal {name!r}"))
        self._awaited[call] = (f"signal:{name}", expect)
        if self._signals.get(name):
            self._resolve_signal(call, handle, self._signals[name].popleft())
        return handle

    def select(self, call: str, needs: tuple[str, ...]) -> str | None:
        self._check_open()
        self.current_cancel_check()
        recorded = self._take_recorded(ev.AgentSelected, call)
        if isinstance(recorded, ev.AgentSelected):
            if recorded.needs != needs:
                raise self._break(NonDeterministicWorkflow(describe(recorded), f"select for {', '.join(needs)}"))
            return recorded.agent or None
        selection = self._directory.select(needs)
        agent, reason = (selection.agent, selection.reason) if selection else ("", "no agent and no generalist")
        self._produce(ev.AgentSelected(call=call, agent=agent, reason=reason, needs=needs), self._now)
        return agent or None

    def start_branch(self, path: str, coroutine: Coroutine[Any, Any, Any]) -> Handle[Any]:
        if self._is_closing:
            coroutine.close()
            raise RunEvicted
        handle: Handle[Any] = Handle(self, path, "branch")
        strand = Strand(coroutine, handle, self.current.shields)
        self._strands.append(strand)
        self._queue(strand)
        return handle

    def cancel_handle(self, handle: Handle[Any]) -> None:
        self._check_open()
        if handle.done:
            return
        if handle.kind == "branch":
            raise PointsmanError("a branch can't be cancelled from outside; let it end, or cancel what it waits for")
        if self._take_recorded(ev.CallCancelled, handle.call) is None:
            self._produce(ev.CallCancelled(call=handle.call), self._now)
        self._awaited.pop(handle.call, None)
        self._resolve(handle, error=CallError("cancelled", "given up by the workflow", call=handle.call))

    def until_any_done(self, handles: Sequence[Handle[Any]]) -> Generator[Wait, None, None]:
        self._check_open()
        self.current_cancel_check()
        while not any(handle.done for handle in handles):
            yield Wait(handles)
            self.current_cancel_check()

    def current_cancel_check(self) -> None:
        """Deliver a cancel at an await, unless the strand is shielded. It is delivered again at each."""
        if self.state.cancel_reason is not None and not self.current.shields:
            raise RunCancelled(self.state.cancel_reason or "cancelled")

    # -- within --------------------------------------------------------------------------------------------------

    def _is_current(self, call: str, attempt: int) -> bool:
        pending = self.state.calls.get(call)
        return pending is not None and pending.attempt == attempt and pending.retry_at is None

    def _check_open(self) -> None:
        if self._is_closing or self._is_over or self._broken is not None:
            raise RunEvicted
        if self.state.sequence + len(self._new) >= self._events_max and self._history is None:
            raise EventLimitReached(
                f"run {self.state.run} has {self.state.sequence} events, and the limit is {self._events_max}: "
                "split the work into child runs, or raise events_max"
            )

    def _break(self, error: PointsmanError) -> BaseException:
        """Code and log disagree: unwind the body with something that `except Exception` does not catch."""
        self._broken = error
        return RunEvicted("the workflow's code does not fit its log")

    def _handle(self, call: str, kind: str) -> Handle[Any]:
        if call in self._handles:
            raise PointsmanError(f"call id {call!r} was used before in this run; give another key=")
        handle: Handle[Any] = Handle(self, call, kind)
        self._handles[call] = handle
        return handle

    def _reroute(self, call: str, asked: str) -> str | None:
        """The agent that a name leads to: itself, or the generalist when there is none of that name; None: refused."""
        recorded = self._take_recorded(ev.AgentRerouted, call)
        if isinstance(recorded, ev.AgentRerouted):
            return recorded.agent
        if (ev.CallRefused, call) in self._recorded:
            return None
        if self._directory.agent(asked) is not None or (ev.CallRequested, call) in self._recorded:
            return asked
        generalist = self._directory.generalist()
        if generalist is not None:
            reason = f"no agent is named {asked!r}"
            self._produce(ev.AgentRerouted(call=call, asked=asked, agent=generalist, reason=reason), self._now)
        return generalist

    def _refuse(self, call: str, asked: str) -> Handle[Any]:
        recorded = self._take_recorded(ev.CallRefused, call)
        message = f"no agent is named {asked!r}, and the app names no generalist; check the name, or set App(generalist=)"
        if recorded is None:
            failure = ev.Failure("unknown_agent", message, retryable=False)
            self._produce(ev.CallRefused(call=call, asked=asked, failure=failure), self._now)
        handle = self._handle(call, "agent")
        self._resolve(handle, error=UnknownAgent(message))
        return handle

    def _take_recorded(self, event_type: type[ev.Event], call: str) -> ev.Event | None:
        return self._recorded.pop((event_type, call), None)

    def _compare_input(self, recorded: ev.CallRequested | ev.ChildStarted, data: bytes, signature: Any) -> None:
        """Digests differ: equal by value under today's schema is equal; else it matters only while the call is pending."""
        if recorded.digest == digest(data):
            return
        assert self._history is not None
        before = self._history.input_of(type(recorded), recorded.call)
        if signature.same_input(before, data):
            return
        if self._history.has_outcome(recorded.call):
            self.warnings.append(f"{recorded.call}: the code now sends another input; the recorded outcome stands")
            return
        shown = f"{describe(recorded)} with input {before[:200]!r}"
        raise self._break(NonDeterministicWorkflow(shown, f"input {data[:200]!r} for the same pending call"))

    def _produce(self, event: ev.Event, at: int, data: bytes = b"", tail: bytes = b"") -> None:
        self._new.append(Produced(event, at, ev.encode_event(event, tail), data))
        if self._history is None:
            self.state.evolve(event, at, data)

    def _note(self, event: ev.Event, now: int) -> None:
        self._produce(event, max(now, self.state.last_at))

    def _cause(self, event: ev.Event, now: int, data: bytes = b"") -> None:
        """A live cause: record it, then let the body answer."""
        at = max(now, self.state.last_at)
        tail = data if isinstance(event, ev.RunStarted) and event.pieces else b""
        self._produce(event, at, data, tail)
        self._deliver(event, at, data)

    def _advance(self, event: ev.Event, at: int, data: bytes) -> None:
        """A recorded cause: fold it, then let the body answer as it did."""
        self.state.evolve(event, at, data)
        self._deliver(event, at, data)
        if self._broken is not None:
            raise self._broken

    def _deliver(self, event: ev.Event, at: int, data: bytes) -> None:
        self._now = at
        if self._is_over:
            return
        match event:
            case ev.RunStarted():
                self._start_body(data)
            case ev.CallCompleted():
                self._resolve_output(event.call, event.output)
            case ev.CallFailed():
                self._resolve_failure(event.call, event.failure)
            case ev.TimerFired():
                self._resolve_known(event.call)
            case ev.SignalReceived():
                self._signal_arrived(event.name, bytes(event.payload))
            case ev.ChildEnded():
                self._child_ended(event)
            case ev.CancelRequested():
                for strand in self._strands:
                    self._queue(strand)
        self._run_ready()

    def _start_body(self, data: bytes) -> None:
        try:
            coroutine = self._workflow.body(Run(self), data)
        except Exception as error:
            self._end(ev.RunFailed(failure=failure_of(error)))
            return
        strand = Strand(coroutine, None)
        self._strands.append(strand)
        self._queue(strand)

    def _resolve_output(self, call: str, output: msgspec.Raw | bytes) -> None:
        handle, (_, signature) = self._handles[call], self._awaited.pop(call, ("", None))
        if handle.done or signature is None:
            return
        try:
            value = signature.decode_output(bytes(output))
        except PointsmanError as error:
            self._broken = NonDeterministicWorkflow(f"a result of {call}", f"a schema that refuses it: {error}")
            return
        self._resolve(handle, value)

    def _resolve_failure(self, call: str, failure: ev.Failure) -> None:
        self._awaited.pop(call, None)
        target = call.rpartition("#")[0] or call
        self._resolve_known(call, error=CallError(failure.kind, failure.message, call=call, target=target))

    def _resolve_known(self, call: str, value: Any = None, error: BaseException | None = None) -> None:
        handle = self._handles[call]
        if not handle.done:
            self._resolve(handle, value, error)

    def _signal_arrived(self, name: str, payload: bytes) -> None:
        for call, (kind, _) in self._awaited.items():
            if kind == f"signal:{name}":
                self._resolve_signal(call, self._handles[call], payload)
                return
        self._signals.setdefault(name, deque()).append(payload)

    def _resolve_signal(self, call: str, handle: Handle[Any], payload: bytes) -> None:
        _, expect = self._awaited.pop(call)
        try:
            self._resolve(handle, self._directory.decode_as(expect, payload))
        except PointsmanError as error:
            self._resolve(handle, error=error)

    def _child_ended(self, event: ev.ChildEnded) -> None:
        if event.status == "completed":
            self._resolve_output(event.call, event.output)
            return
        failure = event.failure or ev.Failure(event.status, "the child run was cancelled")
        self._awaited.pop(event.call, None)
        self._resolve_known(event.call, error=ChildError(failure.kind, failure.message, call=event.call))

    def _resolve(self, handle: Handle[Any], value: Any = None, error: BaseException | None = None) -> None:
        self._order += 1
        for strand in handle.resolve(self._order, value, error):
            self._queue(strand)

    def _queue(self, strand: Strand) -> None:
        if not strand.is_queued and not strand.is_over:
            strand.is_queued = True
            self._ready.append(strand)

    def _run_ready(self) -> None:
        while self._ready and self._broken is None and not self._is_over:
            strand = self._ready.popleft()
            strand.is_queued = False
            if strand.is_over:
                continue
            self.current = strand
            self._resume(strand)
        if self._broken is not None and self._history is None:
            raise self._broken

    def _resume(self, strand: Strand) -> None:
        """Run a strand until it waits for handles or is over."""
        refusal: ForeignAwaitable | None = None
        try:
            while True:
                asked = strand.coroutine.throw(refusal) if refusal else strand.coroutine.send(None)
                if isinstance(asked, Wait):
                    for handle in asked.handles:
                        if strand not in handle.waiters:
                            handle.waiters.append(strand)
                    return
                refusal = _refusal(asked)
        except StopIteration as stop:
            self._strand_over(strand, stop.value, None)
        except RunEvicted:
            self._forget(strand)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit too: a body must not end its coordinator
            self._strand_over(strand, None, error)

    def _forget(self, strand: Strand) -> None:
        strand.is_over = True
        self._strands.remove(strand)

    def _strand_over(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        self._forget(strand)
        if strand.handle is not None:
            self._resolve(strand.handle, value, error)
        elif isinstance(error, RunCancelled):
            self._end(ev.RunWasCancelled(reason=self.state.cancel_reason or ""))
        elif error is not None:
            self._end(ev.RunFailed(failure=failure_of(error)))
        else:
            try:
                self._end(ev.RunCompleted(output=msgspec.Raw(self._workflow.encode_output(value))))
            except PointsmanError as refused:
                self._end(ev.RunFailed(failure=failure_of(refused)))

    def _end(self, event: ev.Event) -> None:
        self.ending = event
        self._finish_over()

    def _check_end(self, recorded: ev.Event) -> None:
        """The log has ended; so must the body have, in the same way."""
        ending, self.ending = self.ending, None
        if type(ending) is not type(recorded):
            produced = describe(ending) if ending is not None else "something else, and waits"
            raise NonDeterministicWorkflow(describe(recorded), produced)

    def _finish_over(self) -> None:
        """The body is over: its other strands leave, and what still comes is recorded and no more."""
        self._is_over = True
        self.close()
        self._is_closing = False


def _refusal(asked: Any) -> ForeignAwaitable:
    what = type(asked).__name__ if asked is not None else "asyncio.sleep(0) or a bare yield"
    return ForeignAwaitable(
        f"a workflow awaited {what}, which is not durable and would be lost with this process: put it into an agent and "
        "await run.call(agent, ...); to wait, use run.sleep(...)"
    )


def stop_note(error: PointsmanError, build: str, at: int) -> Produced:
    """The event that says that this build can't drive the run; it goes on when another can."""
    event = ev.RunStopped(kind=error.code, message=str(error)[:4_000], build=build)
    return Produced(event, at, ev.encode_event(event))


def failure_of(error: BaseException) -> ev.Failure:
    """What the log keeps of an exception that ended a run."""
    if isinstance(error, CallError):
        return ev.Failure(error.kind, str(error), retryable=False)
    if isinstance(error, PointsmanError):
        return ev.Failure(error.code, str(error), retryable=False)
    return ev.Failure("exception", f"{type(error).__name__}: {error}"[:2_000], retryable=False)
