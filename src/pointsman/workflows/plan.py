"""Plan: tasks that depend on each other. Each is a call, and tasks run in parallel as far as their dependencies and the
limit allow.

A plan is declared and checked once, and executed in any number of runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from pointsman.kernel.errors import InvalidPlan, InvalidValue, PlanFailed, PointsmanError
from pointsman.kernel.run import KEY_CHARS_MAX, Run
from pointsman.kernel.strands import Handle

Arguments = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Task:
    """One call of a plan.

    Attributes:
        target: an agent, its name, or a workflow.
        after: names of the tasks that it needs.
        arguments: a function from the results so far, by task ("given" is what the plan was executed with), to the
            call's
            argument; a tuple is its arguments. Without it, the call gets what the plan was executed with.
        if_failed: what happens when the call has failed for good. "stop": no further task begins. "skip": the tasks
            that
            need this one are skipped, and the others go on.
        options: of the call, as of `run.call`: fallback, person, default, priority, budget.
        retries: how often the call is made anew, under another key, after it has failed for good. This is in addition
            to
            the retries on its agent's card.
    """

    name: str
    target: Any
    after: Sequence[str] = ()
    arguments: Arguments | None = None
    if_failed: Literal["stop", "skip"] = "stop"
    options: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True)
class Executed:
    """The outcome of a plan: each task is in one of the three.

    Attributes:
        skipped: the reason for each skipped task.
    """

    results: dict[str, Any]
    failed: dict[str, PointsmanError]
    skipped: dict[str, str]


class Plan:
    """Tasks that depend on each other, declared once and executed in any number of runs.

    Args:
        name: of the plan, in the ids of its calls: a run that executes several needs several.

    Raises:
        InvalidPlan: two tasks of one name, a name that is too long for the ids of its calls, a task that needs one that
            is not there, or a circle, which is shown.
    """

    def __init__(self, tasks: Sequence[Task], *, name: str = "plan") -> None:
        if not name or "#" in name or "/" in name:
            raise InvalidPlan(f"a plan can't be named {name!r}")
        self.name = name
        self.tasks = {task.name: task for task in tasks}
        if len(self.tasks) < len(tasks):
            raise InvalidPlan(f"two tasks have one name: {', '.join(task.name for task in tasks)}")
        for task in tasks:
            if task.name == "given" or not task.name or "#" in task.name or "/" in task.name:
                raise InvalidPlan(f"a task can't be named {task.name!r}")
            if task.retries < 0:
                raise InvalidPlan(f"task {task.name}: retries={task.retries}: 0 or more")
            longest = self._key(task, task.retries + 1)
            if len(longest) > KEY_CHARS_MAX:
                raise InvalidPlan(
                    f"task {task.name[:40]}…: its call would be {longest[:60]}…, of {len(longest)} characters, and the "
                    f"limit is {KEY_CHARS_MAX}: give the task or the plan a shorter name"
                )
            for name in task.after:
                if name not in self.tasks:
                    raise InvalidPlan(f"{task.name} needs {name}, and there is no such task")
        try:
            TopologicalSorter({task.name: task.after for task in tasks}).prepare()
        except CycleError as error:
            raise InvalidPlan(f"a circle: {' is needed by '.join(error.args[1])}") from None

    async def execute(self, run: Run, given: Any = None, *, at_once: int | None = None) -> Executed:
        """Do all that can be done, `at_once` calls at a time (None: no limit); in the order of the declaration where
        several could begin.

        Raises:
            PlanFailed: a task failed whose `if_failed` is "stop". What was under way has ended; `executed` is what came
            of all tasks, and the message says of each that was not done why.
        """
        if at_once is not None and at_once < 1:
            raise InvalidValue(f"execute(at_once={at_once}): 1 or more, or None for no limit")
        run.declare_plan(self.name, [(t.name, _name_of(t.target), t.after, t.if_failed) for t in self.tasks.values()])
        executed = Executed({}, {}, {})
        under_way: dict[str, Handle[Any]] = {}
        tries: Counter[str] = Counter()
        fatal = ""
        while True:
            self._skip(executed, under_way, fatal)
            for task in self._ready(executed, under_way):
                if at_once is None or len(under_way) < at_once:
                    under_way[task.name] = self._begin(run, task, tries, given, executed.results)
            if not under_way:
                break
            await run.first(*under_way.values())  # type: ignore[unused-awaitable]  # it is done
            for name in [name for name, handle in under_way.items() if handle.done]:
                handle, task = under_way.pop(name), self.tasks[name]
                if handle.error is not None and tries[name] <= task.retries and not fatal:
                    continue
                error = _note(name, handle, executed)
                if error is not None and task.if_failed == "stop":
                    fatal = fatal or name
        if fatal:
            raise PlanFailed(_told(executed), executed)
        return executed

    def _begin(
        self, run: Run, task: Task, tries: Counter[str], given: Any, results: Mapping[str, Any]
    ) -> Handle[Any]:  # fmt: skip
        tries[task.name] += 1
        key = self._key(task, tries[task.name])
        arguments = given if task.arguments is None else task.arguments({**results, "given": given})
        several = arguments if isinstance(arguments, tuple) else (arguments,)
        return run.start(task.target, *several, key=key, **task.options)

    def _key(self, task: Task, number: int) -> str:
        """Of the n-th time that its call is made."""
        return f"{self.name}/{task.name}" + (f"/{number}" if number > 1 else "")

    def _ready(self, executed: Executed, under_way: Mapping[str, Handle[Any]]) -> list[Task]:
        return [
            task for task in self._waiting(executed, under_way) if all(name in executed.results for name in task.after)
        ]

    def _waiting(self, executed: Executed, under_way: Mapping[str, Handle[Any]]) -> list[Task]:
        begun = {*executed.results, *executed.failed, *executed.skipped, *under_way}
        return [task for task in self.tasks.values() if task.name not in begun]

    def _skip(self, executed: Executed, under_way: Mapping[str, Handle[Any]], fatal: str) -> None:
        """Say of each task that can no longer begin why it can't. One that is skipped may skip others."""
        is_new = True
        while is_new:
            is_new = False
            for task in self._waiting(executed, under_way):
                lost = next((name for name in task.after if name in executed.failed or name in executed.skipped), None)
                if lost is not None:
                    executed.skipped[task.name] = f"it needs {lost}"
                elif fatal:
                    executed.skipped[task.name] = f"{fatal} failed, and the plan stops there"
                is_new = is_new or task.name in executed.skipped


def _name_of(target: Any) -> str:
    return target if isinstance(target, str) else str(target.name)


def _note(name: str, handle: Handle[Any], executed: Executed) -> PointsmanError | None:
    error = handle.error
    if not isinstance(error, PointsmanError):
        executed.results[name] = handle.result()
        return None
    executed.failed[name] = error
    return error


def _told(executed: Executed) -> str:
    failed = [f"{name} failed: {error}" for name, error in executed.failed.items()]
    return "; ".join([*failed, *(f"{name} was not done: {why}" for name, why in executed.skipped.items())])
