"""The body of a run: its coroutine and its branches, to which causes are delivered one at a time.

After each cause the body runs until every strand of it waits. What it asked for meanwhile is in `requests`. Once it has
ended, `ending` is the event that ends the run. `execution.py` decides whether all this agrees with the log.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.errors import (
    CallError,
    CallsUnderWay,
    ChildError,
    DeadEnd,
    LoopDetected,
    NonDeterministicWorkflow,
    PointsmanError,
    RunCancelled,
    RunDeadlocked,
    RunRestarting,
    StateChangedInPlace,
)
from pointsman.kernel.people import AskHandle, answer_of
from pointsman.kernel.program import Directory, WorkflowSpec
from pointsman.kernel.requests import Requests
from pointsman.kernel.run import Run
from pointsman.kernel.scheduler import Scheduler
from pointsman.kernel.state import RunState
from pointsman.kernel.strands import Handle, Strand
from pointsman.kernel.typed_state import TypedState
from pointsman.kernel.values import faithful, said_by

EXPIRED = ev.Failure("expired", "nobody answered within the time that the workflow gave", retryable=False)
CAUSES_MAX = 20
"""Errors that are followed back; a chain may go round in a circle."""


class Body:
    """Runs the coroutine of a workflow and its branches by hand.

    Attributes:
        requests: what the body asks for.
        ending: the terminal event, once the body has ended.
        restart: the input of the next generation, if the body ended in a restart.
        raised: the exception of the author's code that ended the body; None if it was one of Pointsman's own errors.
    """

    def __init__(self, state: RunState, workflow: WorkflowSpec, directory: Directory, events_max: int) -> None:
        self.ending: ev.Event | None = None
        self.restart: bytes | None = None
        self.raised: BaseException | None = None
        self._state = state
        self._workflow = workflow
        self._scheduler = Scheduler(self._strand_over)
        self._has_waited = False
        self.requests = Requests(state, workflow, directory, self._scheduler, events_max)

    def deliver(self, event: ev.Event, at: int, data: bytes) -> None:
        """Deliver a cause and run the body until it waits again. Raises the error that broke the body, if any."""
        requests = self.requests
        if requests.is_closed:
            return
        requests.now = at
        match event:  # the most frequent one first: each case costs those behind it
            case ev.CallCompleted():
                self._call_completed(event.call, event.output, event.emitted)
            case ev.RunStarted() | ev.RunRestarted():
                self._start(data)
            case ev.CallSkipped():
                self._call_skipped(event.call, bytes(event.output))
            case ev.HumanTaskAnswered() | ev.HumanTaskExpired():
                self._task_over(event, at)
            case ev.CallFailed():
                self._call_failed(event.call, event.failure)
            case ev.TimerFired():
                self._answer(requests.handles[event.call])
            case ev.SignalReceived():
                requests.signal_arrived(event.name, bytes(event.payload))
            case ev.ChildEnded():
                self._child_ended(event)
            case ev.CancelRequested():
                requests.is_interrupted = True
                self._scheduler.wake_all()
        self._scheduler.run()
        self._has_waited = True
        if requests.broken is not None or requests.typed is not None:
            self._look_back(requests.broken, requests.typed)

    def _look_back(self, broken: PointsmanError | None, typed: TypedState | None) -> None:
        """Check, after a step, that code and log agree and that the state object given to the body still matches the
        log.
        """
        if broken is not None:
            raise broken
        try:
            if typed is not None:
                typed.check_unchanged()
        except StateChangedInPlace as error:
            if not isinstance(self.ending, ev.RunFailed):
                self.restart = None
                self._end(ev.RunFailed(failure=failure_of(error)))

    def _start(self, data: bytes) -> None:
        self.requests.given_bytes += len(data)
        self.requests.is_interrupted = self._state.cancel_reason is not None  # of an earlier generation
        try:
            coroutine = self._workflow.body(Run(self.requests, self._state), data)
        except Exception as error:  # noqa: BLE001  whatever a body raises is its run's failure
            self._end(ev.RunFailed(failure=failure_of(error)))
            return
        self._scheduler.spawn(coroutine, None)

    def _answer(self, handle: Handle[Any], value: Any = None, error: BaseException | None = None) -> None:
        requests = self.requests
        if requests.defaults:
            requests.defaults.pop(handle.call, None)
        if not handle.order:
            requests.resolve(handle, value, error)

    def check_progress(self) -> None:
        """End a body that waits while nothing is under way, for example branches that wait for each other. What a
        person or a signal may still bring counts as under way.
        """
        state = self._state
        if self.requests.is_closed or state.calls or state.timers or state.children or state.waiting_for or state.tasks:
            return
        branches = ", ".join(self._scheduler.waiting) or "nothing"
        self._end(
            ev.RunFailed(failure=failure_of(RunDeadlocked(f"{RunDeadlocked.meaning()} Left waiting: {branches}")))
        )

    def _call_completed(self, call: str, output: msgspec.Raw, emitted: tuple[ev.Emission, ...] = ()) -> None:
        requests = self.requests
        handle = requests.handles.get(call)
        if handle is None or handle.order or handle.signature is None:
            return
        try:
            value = handle.signature.decode_output(bytes(output))
        except PointsmanError as error:
            misfit = NonDeterministicWorkflow(f"a result of {call}", f"a schema that refuses it: {error}")
            requests.break_off(misfit)
            return
        requests.given_bytes += len(output)
        if emitted:
            requests.given_bytes += sum(len(emission.data) for emission in emitted)
            requests.note_emitted(call, emitted)
        self._answer(handle, value)

    def _call_failed(self, call: str, failure: ev.Failure) -> None:
        target = call.rpartition("#")[0] or call
        self._answer(
            self.requests.handles[call], error=CallError(failure.kind, failure.message, call=call, target=target)
        )

    def _call_skipped(self, call: str, default: bytes) -> None:
        """The default, read by the agent's schema; or as plain data if the author chose a default that does not fit the
        schema.
        """
        handle = self.requests.handles.get(call)
        if handle is None or handle.order or handle.signature is None:
            return
        try:
            value = handle.signature.decode_output(default)
        except PointsmanError:
            value = msgspec.json.decode(default)
        self.requests.given_bytes += len(default)
        self._answer(handle, value)

    def _task_over(self, event: ev.HumanTaskAnswered | ev.HumanTaskExpired, at: int) -> None:
        handle = self.requests.handles.get(event.call)
        if self._state.misplaced is event or handle is None:
            return  # it was on its way when the body, a redrive or an earlier generation gave its task up
        if isinstance(handle, AskHandle):
            self._ask_over(handle, event, at)
            return
        failure = EXPIRED if isinstance(event, ev.HumanTaskExpired) else event.failure
        default = self.requests.defaults.get(event.call)
        if failure is None and isinstance(event, ev.HumanTaskAnswered):
            self._call_completed(event.call, event.output)
        elif default is not None:
            self._call_skipped(event.call, default)
        elif failure is not None:
            self._call_failed(event.call, failure)

    def _ask_over(self, handle: AskHandle, event: ev.HumanTaskAnswered | ev.HumanTaskExpired, at: int) -> None:
        if isinstance(event, ev.HumanTaskAnswered):
            self.requests.given_bytes += len(event.output)
        try:
            self._answer(handle, answer_of(handle, event, at))
        except PointsmanError as error:
            self._answer(handle, error=error)

    def _child_ended(self, event: ev.ChildEnded) -> None:
        if self.requests.children.get(event.call) != event.run:
            return  # a child of an earlier generation, or of what a redrive made void: nobody waits for it
        if event.status == "completed":
            self._call_completed(event.call, event.output)
            return
        failure = event.failure or ev.Failure(event.status, "the child run was cancelled")
        error = ChildError(failure.kind, failure.message, call=event.call)
        self._answer(self.requests.handles[event.call], error=error)

    def close(self) -> None:
        """Drop the body from memory. The author's `finally` blocks run, and nothing that they do counts."""
        if self.requests.is_closed:  # it has ended, and left
            return
        self.requests.is_closed = self.requests.is_interrupted = True
        self._scheduler.close()
        self.requests.handles.clear()  # each holds the requests; nothing asks for one any more

    # -- the end ---------------------------------------------------------------------------------------------------

    def _strand_over(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        if strand.handle is not None:
            self.requests.resolve(strand.handle, value, error)
        elif isinstance(error, RunRestarting):
            self._end_generation(error.data)
        elif isinstance(error, RunCancelled):
            self._end(ev.RunWasCancelled(reason=self._state.cancel_reason or ""))
        elif error is not None:
            self.raised = None if isinstance(error, PointsmanError) else error
            self._end(ev.RunFailed(call=_failed_call(error), failure=failure_of(error)))
        else:
            try:
                self._end(ev.RunCompleted(output=msgspec.Raw(self._workflow.encode_output(value))))
            except PointsmanError as refused:
                self._end(ev.RunFailed(failure=failure_of(refused)))

    def _end_generation(self, data: bytes) -> None:
        left = [h.call for h in self.requests.handles.values() if h.kind in ("agent", "person") and not h.done]
        refused: PointsmanError | None = None
        if left:
            shown = ", ".join(left[:5]) + (", …" if len(left) > 5 else "")
            refused = CallsUnderWay(f"run.restart while {shown} are under way: await them, or cancel their handles")
        elif not self._has_waited and not self.requests.signals.taken:
            refused = LoopDetected("run.restart in a generation that waited for nothing: it would restart for ever")
        if refused is not None:
            self._end(ev.RunFailed(failure=failure_of(refused)))
            return
        self.restart = data
        self.close()

    def _end(self, event: ev.Event) -> None:
        """End the body: its branches are dropped, and later outcomes are recorded but not delivered."""
        self.ending = event
        self.close()


def _failed_call(error: BaseException) -> str:
    """The call that an error comes from, looked for through the author's own errors too."""
    cause: BaseException | None = error
    for _ in range(CAUSES_MAX):
        if cause is None:
            break
        if isinstance(cause, CallError | DeadEnd):
            return cause.call
        cause = cause.__cause__ or cause.__context__
    return ""


def failure_of(error: BaseException) -> ev.Failure:
    """The failure to record for an exception that ended a run."""
    if isinstance(error, CallError):
        return ev.Failure(faithful(error.kind, 64), faithful(error), retryable=False)
    if isinstance(error, PointsmanError):
        return ev.Failure(error.code, faithful(error), retryable=False)
    return ev.Failure("exception", said_by(error), retryable=False)
