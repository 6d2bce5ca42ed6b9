"""The plans of a run: how each task stands, why, and the graph of what needs what.

Pure: a plan's tasks and the spans of the run in, states and lines of text out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from pointsman.cli.output import duration, table, text
from pointsman.cli.runs.timeline import Span, failure_text

SYMBOLS = {
    "done": ("✓", "green"), "running": ("▶", "cyan"), "ready": ("○", "bold"), "waiting": ("·", "dim"),
    "failed": ("✗", "bold red"), "skipped": ("–", "yellow"),
}  # fmt: skip


@dataclass
class TaskState:
    """How a task stands.

    Attributes:
        state: done; running; ready: nothing is missing, but its turn has not come; waiting: for other tasks; failed;
            skipped: it will not be done.
        why: what it waits for, why it failed or will not be done, or how it goes while it runs.
        span: its latest call, once it has begun.
    """

    name: str
    agent: str
    after: list[str]
    if_failed: str
    state: str = "waiting"
    why: str = ""
    span: Span | None = None


@dataclass
class PlanStory:
    """A plan and its tasks, each after those that it needs."""

    call: str
    tasks: dict[str, TaskState] = field(default_factory=dict)


def read(call: str, tasks: Sequence[Mapping[str, Any]], spans: Sequence[Span], *, is_over: bool) -> PlanStory:
    """Each task as the calls of the run say that it stands. `is_over`: the run is, and nothing begins any more."""
    latest = {span.call: span for span in spans}
    told = [
        TaskState(task["name"], task["target"], list(task.get("after", ())), task.get("if_failed", "stop"),
                  span=_latest(task["call"], latest))
        for task in tasks
    ]  # fmt: skip
    story, left = PlanStory(call), told
    while left:  # a plan has no circles; a log that says otherwise is drawn as far as it goes
        ready = [task for task in left if all(name in story.tasks for name in task.after)] or left
        story.tasks |= {task.name: task for task in ready}
        left = [task for task in left if task.name not in story.tasks]
    for task in story.tasks.values():
        if task.span is not None:
            _begun(task, task.span)
    fatal = next((t.name for t in story.tasks.values() if t.state == "failed" and t.if_failed == "stop"), "")
    for task in story.tasks.values():
        if task.span is None:
            task.state, task.why = _not_begun(task, story.tasks, fatal, is_over=is_over)
    return story


def _latest(call: str, spans: Mapping[str, Span]) -> Span | None:
    """Of a task that was tried anew, the last try."""
    found, number = spans.get(call), 2
    base, at, generation = call.partition("@")
    while (again := spans.get(f"{base}/{number}{at}{generation}")) is not None:
        found, number = again, number + 1
    return found


def _begun(task: TaskState, span: Span) -> None:
    if span.end is None:
        task.state = "running"
        task.why = "" if span.outcome == "pending" else span.outcome
        failures = [attempt.failure for attempt in span.attempts if attempt.failure]
        if failures:
            task.why = f"{task.why}; attempt {len(failures)}: {failure_text(failures[-1])}".lstrip("; ")
    elif span.failure:
        task.state, task.why = "failed", failure_text(span.failure)
    elif span.outcome in ("given up", "left open", "cancelled"):
        task.state, task.why = "skipped", span.outcome
    else:
        task.state = "done"
        task.why = "" if span.outcome == "completed" else span.outcome


def _not_begun(task: TaskState, tasks: Mapping[str, TaskState], fatal: str, *, is_over: bool) -> tuple[str, str]:
    needed = [tasks[name] for name in task.after if name in tasks]
    lost = next((other.name for other in needed if other.state in ("failed", "skipped")), None)
    if lost is not None:
        return "skipped", f"it needs {lost}"
    if fatal:
        return "skipped", f"{fatal} failed, and the plan stops there"
    if is_over:
        return "skipped", "the run is over"
    missing = [other.name for other in needed if other.state != "done"]
    return ("waiting", f"for {', '.join(missing)}") if missing else ("ready", "its turn has not come")


def drawing(story: PlanStory, last: int) -> Table:
    """The graph: each task below the last of those that it needs, and beside it the others. `last` (ms): until when
    what runs has run."""
    count = sum(task.state == "done" for task in story.tasks.values())
    title = story.call.partition("#")[0].removeprefix("plan:")
    out = table([f"{title}: {count} of {len(story.tasks)} done", "agent", "took", "", "why"])
    under: dict[str, list[str]] = {}
    for task in story.tasks.values():
        under.setdefault(_parent(task, story), []).append(task.name)
    for name, guide in _lines(under, "", ""):
        task = story.tasks[name]
        symbol, style = SYMBOLS[task.state]
        others = [other for other in task.after if other != _parent(task, story)]
        head = Text.assemble(text(guide, "dim"), text(f"{symbol} ", style), text(name, "bold"))
        if others:
            head.append_text(text(f"  ← {', '.join(others)}", "dim"))
        span = task.span
        took = "" if span is None else duration((span.end if span.end is not None else last) - span.start)
        out.add_row(head, text(task.agent), text(took), text(task.state, style), text(task.why))
    return out


def _parent(task: TaskState, story: PlanStory) -> str:
    """The task that it is drawn under: of those that it needs, the last in the order of the drawing."""
    order = list(story.tasks)
    return max((name for name in task.after if name in story.tasks), key=order.index, default="")


def _lines(under: Mapping[str, Sequence[str]], name: str, guide: str) -> list[tuple[str, str]]:
    """Names with what is drawn before them."""
    lines: list[tuple[str, str]] = []
    children = under.get(name, ())
    for child in children:
        is_last = child == children[-1]
        own = "" if not name else guide + ("└─" if is_last else "├─")
        below = "" if not name else guide + ("  " if is_last else "│ ")
        lines += [(child, own), *_lines(under, child, below)]
    return lines


def plain(story: PlanStory) -> dict[str, Any]:
    """For `--json`."""
    return {
        "call": story.call,
        "tasks": [
            {
                "name": task.name, "agent": task.agent, "after": task.after, "if_failed": task.if_failed,
                "state": task.state, "why": task.why, "call": task.span.call if task.span is not None else None,
            }
            for task in story.tasks.values()
        ],
    }  # fmt: skip
