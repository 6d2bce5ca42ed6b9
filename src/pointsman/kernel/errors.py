"""Every error that Pointsman raises on purpose, in one tree.

    PointsmanError                     .code (stable), .retryable (would the same request later help?)
    ├── InvalidValue                   a value that no store could hold faithfully
    │   ├── ValueTooLarge              over a configured size limit
    │   ├── InvalidCursor              of a page, and none that the store gave
    │   └── StoreRefused               a rule of the database itself refuses it
    ├── InvalidInput                   does not fit the declared schema
    ├── UnknownWorkflow                no such workflow or version is registered
    ├── UnknownRun                     no such run
    ├── NoSuchSequence                 a run ended before it
    ├── UnknownAgent                   no such agent, and no generalist to go to instead
    ├── RunConflict                    the same run id or key, other input
    ├── RunEnded                       the run has ended: it takes no more mail
    ├── DuplicateMail                  this key was already accepted for this run
    ├── UnknownTask                    no such human task
    ├── TaskAnswered                   a person was faster
    ├── TaskClosed                     the run went on without an answer
    ├── AnswerMisplaced                the answer is to something else than what is asked
    ├── UnknownBudget                  nobody has set such a budget
    ├── WrongExpectedSequence          another append won
    ├── CodeChanged
    │   ├── NonDeterministicWorkflow   the code and the log disagree
    │   ├── UnknownEvent               an event type or version from the future
    │   └── StateFromFuture            a run's typed state is of a version that this code does not know
    ├── InvalidState                   a run's typed state does not fit its schema
    ├── StateChangedInPlace            the object that run.state gave was written into
    ├── PoisonedRun                    coordinators die when they drive it
    ├── NotQuarantined                 only a run that is held back can be released
    ├── ForeignAwaitable               a workflow awaited something that is not durable
    ├── LoopDetected                   a run calls the same thing again and again, or calls for ever
    ├── EventLimitReached              a generation of a run has too many events
    ├── CallsUnderWay                  run.restart with calls that nobody has waited for
    ├── RunDeadlocked                  a body waits for what can't come
    ├── NotRedrivable                  only a failed run can be redriven
    ├── DeadEnd                        an event without a subscriber, or a run of events that reached no end
    ├── InvalidPlan                    tasks that need each other in a circle, or what is not there
    ├── PlanFailed                     a task failed, and others can't be done for it
    ├── CompensationFailed             a saga could not undo all of its steps
    ├── CorruptLog                     a hole or a damaged event in a run's stream
    ├── CallError                      a call ended without a result; raised inside workflows
    │   ├── ChildError                 a child run failed or was cancelled
    │   ├── FanOutFailed               too few of many calls gave a result
    │   ├── SignalTimeout              wait_for(timeout=...) ran out
    │   └── NotAnswered                a person refused, or nobody answered in time
    ├── StoreUnavailable               the store can't be reached, or said no for now
    │   └── StoreInUse                 another process has the file open
    ├── Overloaded                     a new run would wait too long, and is not started
    ├── SchemaMissing, SchemaFromFuture, SchemaDiffers, CoordinatorExists, Draining

    RunControl (BaseException)         control flow that `except Exception` must not catch
    ├── RunRestarting                  run.restart: the body ends, and begins again
    ├── RunCancelled                   delivered at the next await after a cancel
    └── RunEvicted                     the run leaves memory; nothing that `finally` does with `run` counts

One tree in one file, however long.
A class's docstring is its default message. `status` is the HTTP status that the API answers with.
"""

from __future__ import annotations


class PointsmanError(Exception):
    """Something went wrong inside Pointsman."""

    code = "internal"
    status = 500
    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else self.meaning())

    @classmethod
    def meaning(cls) -> str:
        """What it says where nobody says more: the first paragraph of its docstring, on one line."""
        return " ".join((cls.__doc__ or cls.code).partition("\n\n")[0].split())


class InvalidValue(PointsmanError):
    """The value can't be stored faithfully as JSON."""

    code = "invalid_value"
    status = 422


class ValueTooLarge(InvalidValue):
    """The value is over the size limit; store it elsewhere and pass a reference, or raise the limit."""

    code = "value_too_large"
    status = 413


class StoreRefused(InvalidValue):
    """A rule of the database itself (a constraint, a trigger) refuses this; change the rule, or what is written."""

    code = "store_refused"


class InvalidCursor(InvalidValue):
    """The cursor is none that this store gave; begin without one."""

    code = "invalid_cursor"


class InvalidInput(PointsmanError):
    """The input does not fit the declared schema."""

    code = "invalid_input"
    status = 422


class UnknownWorkflow(PointsmanError):
    """No such workflow is registered here; check its name and version, or deploy the code that has it."""

    code = "unknown_workflow"
    status = 404


class UnknownRun(PointsmanError):
    """No run has this id."""

    code = "unknown_run"
    status = 404


class NoSuchSequence(PointsmanError):
    """The run ended before this sequence; ask for the events after a smaller one."""

    code = "no_such_sequence"
    status = 400


class UnknownAgent(PointsmanError):
    """No agent has this name, and the app names no generalist to go to instead."""

    code = "unknown_agent"
    status = 422


class RunConflict(PointsmanError):
    """A run with this id or key exists with another workflow or input; use a new id, or send the same input."""

    code = "run_conflict"
    status = 409


class RunEnded(PointsmanError):
    """The run has ended and takes no more signals or cancels."""

    code = "run_ended"
    status = 409


class DuplicateMail(PointsmanError):
    """This key was already accepted for this run; the first one counts."""

    code = "duplicate"
    status = 409


class UnknownTask(PointsmanError):
    """No human task has this id."""

    code = "unknown_task"
    status = 404


class TaskAnswered(PointsmanError):
    """The task was answered before; the first answer counts."""

    code = "task_answered"
    status = 409


class TaskClosed(PointsmanError):
    """The run has ended, or went on without an answer: nobody waits for one any more."""

    code = "task_closed"
    status = 409


class AnswerMisplaced(PointsmanError):
    """The digest is not that of the question: look at it again, and answer what is asked now."""

    code = "answer_misplaced"
    status = 409


class UnknownBudget(PointsmanError):
    """Nobody has set this budget, and no call has needed it yet; set it, or check its scope and name."""

    code = "unknown_budget"
    status = 404


class WrongExpectedSequence(PointsmanError):
    """Another append won: read the run's head again before you retry."""

    code = "wrong_expected_sequence"
    status = 409


class CodeChanged(PointsmanError):
    """The code that drives this run no longer fits its log."""

    code = "code_changed"
    status = 409


class NonDeterministicWorkflow(CodeChanged):
    """The workflow did something else than its log says; deploy code that fits, and the run goes on."""

    code = "non_deterministic_workflow"

    def __init__(self, recorded: str, produced: str) -> None:
        super().__init__(
            f"the log has {recorded}; the code now does {produced}. The run is stopped and nothing is lost: "
            "deploy code that does what the log says (or a new workflow version beside the old one), and it goes on"
        )
        self.recorded = recorded
        self.produced = produced


class UnknownEvent(CodeChanged):
    """The log holds an event that this release does not know; run a newer release of Pointsman."""

    code = "unknown_event"


class StateFromFuture(CodeChanged):
    """The run's state is of a newer version than this code knows; deploy code that knows it, and the run goes on."""

    code = "state_from_future"


class InvalidState(PointsmanError):
    """The value does not fit the schema of the run's state."""

    code = "invalid_state"
    status = 422


class StateChangedInPlace(PointsmanError):
    """The object that run.state gave was written into, which no log knows of: change it by run.set(...) alone."""

    code = "state_changed_in_place"


class PoisonedRun(PointsmanError):
    """Coordinators died driving this run, again and again; deploy code that does not end them, and release it."""

    code = "poisoned_run"


class NotQuarantined(PointsmanError):
    """The run is not quarantined: there is nothing to release it from."""

    code = "not_quarantined"
    status = 409


class ForeignAwaitable(PointsmanError):
    """A workflow awaited something that is not durable: put it into an agent and await run.call(agent, ...)."""

    code = "foreign_awaitable"


class EventLimitReached(PointsmanError):
    """The run's generation has reached its limit of events; end long loops in run.restart(...), or raise the limit."""

    code = "event_limit_reached"


class CallsUnderWay(PointsmanError):
    """run.restart while calls of agents are under way: await them, or cancel their handles, before it."""

    code = "calls_under_way"


class RunDeadlocked(PointsmanError):
    """The body waits, and nothing is under way that it could wait for: no call, timer, child run, signal or person."""

    code = "deadlock"


class NotRedrivable(PointsmanError):
    """Only a failed run can be redriven."""

    code = "not_redrivable"
    status = 409


class LoopDetected(PointsmanError):
    """The run goes round in circles; see turns_max and repeats_max of its workflow."""

    code = "loop_detected"


class DeadEnd(PointsmanError):
    """An event-driven run goes nowhere: an agent has to subscribe to the event (`app.on`), or it has to be among the
    run's `ends`, one of which has to be emitted.

    Attributes:
        call: under which it is recorded that nobody subscribes; a redrive asks again. Empty: every event had a
            subscriber.
    """

    code = "dead_end"

    def __init__(self, message: str = "", *, call: str = "") -> None:
        super().__init__(message)
        self.call = call


class InvalidPlan(PointsmanError):
    """The plan's tasks can't be done in any order."""

    code = "invalid_plan"
    status = 422


class PlanFailed(PointsmanError):
    """A task of the plan failed. `executed` (see `workflows/plan.py`) is what came of all of them."""

    code = "plan_failed"

    def __init__(self, message: str, executed: object) -> None:
        super().__init__(message)
        self.executed = executed


class CompensationFailed(PointsmanError):
    """Steps of a saga were not undone. Its cause is why they had to be."""

    code = "compensation_failed"


class CorruptLog(PointsmanError):
    """The run's stream has a hole or a damaged event; it is held back until it is repaired."""

    code = "corrupt_log"


class CallError(PointsmanError):
    """A call ended without a result. `kind` is stable; `message` is for people."""

    code = "call_failed"

    def __init__(self, kind: str, message: str, *, call: str = "", target: str = "") -> None:
        super().__init__(f"{target or call}: {kind}: {message}" if target or call else f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.call = call
        self.target = target


class ChildError(CallError):
    """A child run failed or was cancelled."""

    code = "child_failed"


class FanOutFailed(CallError):
    """Too few of many calls gave a result. `kind` is that of the first failure."""

    code = "fan_out_failed"


class SignalTimeout(CallError):
    """No signal of this name came in time."""

    code = "signal_timeout"


class NotAnswered(CallError):
    """A person refused to answer, or nobody did in time. `kind` says which: `not_answered`, `expired`."""

    code = "not_answered"


class StoreUnavailable(PointsmanError):
    """The store can't be reached; try again."""

    code = "store_unavailable"
    status = 503
    retryable = True


class StoreInUse(StoreUnavailable):
    """Another process has the store's file open: stop it, or let several processes share a PostgreSQL."""

    code = "store_in_use"
    retryable = False


class SchemaMissing(PointsmanError):
    """The database has no Pointsman schema, or an older one: run `pointsman migrate`."""

    code = "schema_missing"
    status = 503


class SchemaFromFuture(PointsmanError):
    """The database's schema is newer than this release: deploy a newer release of Pointsman."""

    code = "schema_from_future"
    status = 503


class SchemaDiffers(PointsmanError):
    """The database's schema was made by another build, whose migrations were others than this one's. Only releases can
    be migrated: keep the build that made it, or begin with a new database."""

    code = "schema_differs"
    status = 503


class CoordinatorExists(PointsmanError):
    """A live coordinator has this name; give this one another --name, or stop the other."""

    code = "coordinator_exists"
    status = 409


class Draining(PointsmanError):
    """This coordinator is leaving; ask another one."""

    code = "draining"
    status = 503
    retryable = True


class Overloaded(PointsmanError):
    """There is too much to do: the run is not started; try again later."""

    code = "overloaded"
    status = 503
    retryable = True
    retry_after_s: float = 1
    """Seconds after which it is worth a try."""


class RunControl(BaseException):
    """Control flow of the kernel; `except Exception` does not catch it."""


class RunCancelled(RunControl):
    """The run was asked to stop. Clean-up that calls agents goes inside `with run.shield():`."""


class RunEvicted(RunControl):
    """The run is leaving memory; it continues elsewhere or later, and nothing done here counts."""


class RunRestarting(RunControl):
    """The body ends here and begins again with this input, in the run's next generation."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
