"""Replay a recorded history from every prefix, and say whether the code still fits it.

A history is a file of JSON lines, one event each, with its body as text (`save`, `load`). Recorded histories are
kept for ever; `pointsman replay APP FILE...` replays them in a process of its own, so that another PYTHONHASHSEED shows
what depends on the order of a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from pointsman.app import App
from pointsman.coordinator.driving.apart import apart
from pointsman.kernel.errors import (
    CodeChanged,
    CorruptLog,
    InvalidInput,
    InvalidState,
    NonDeterministicWorkflow,
    PointsmanError,
    UnknownWorkflow,
)
from pointsman.kernel.events import Recorded, RunStarted
from pointsman.kernel.execution import Execution
from pointsman.kernel.state import RunState
from pointsman.kernel.upcast import read_event


class Line(msgspec.Struct):
    """An event as a history file has it; bodies are UTF-8."""

    sequence: int
    at: int
    type: str
    version: int
    body: str


@dataclass(frozen=True)
class Fit:
    """Whether code fits a run's log.

    Attributes:
        events: how many the log has.
        code: of the error that stops the run; empty where the code fits. message: what it says.
        recorded, produced: both sides, where the code asks for something else than the log has.
        warnings: what lets the run go on, and should be known: another input for a call whose outcome is recorded.
    """

    run: str
    workflow: str
    version: int
    events: int
    code: str = ""
    message: str = ""
    recorded: str = ""
    produced: str = ""
    warnings: tuple[str, ...] = ()


def save(events: Sequence[Recorded], path: Path) -> None:
    """Write a history."""
    lines = [Line(row.sequence, row.at, row.type, row.version, row.body.decode()) for row in events]
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines) + b"\n")


def load(path: Path) -> list[Recorded]:
    """Read a history."""
    lines = [msgspec.json.decode(text, type=Line) for text in path.read_bytes().split(b"\n") if text]
    return [Recorded(line.sequence, line.at, line.type, line.version, line.body.encode()) for line in lines]


def replay_prefixes(app: App, run: str, events: Sequence[Recorded]) -> RunState:
    """Replay every prefix of a run's events from scratch, and give the state after the last.

    Raises:
        UnknownWorkflow, and what `Execution.replay` raises when code and log do not fit.
    """
    state = RunState(run=run)
    for length in range(1, len(events) + 1):
        started = read_event(events[0])
        assert isinstance(started, RunStarted)
        workflow = app.directory.workflow(started.workflow, started.workflow_version)
        if workflow is None:
            raise UnknownWorkflow(f"the app has no workflow {started.workflow} v{started.workflow_version}")
        execution = Execution(run, workflow, app.directory)
        try:
            with apart():
                execution.replay(events[:length])
            state = execution.state
        finally:
            execution.close()
    return state


def fit(app: App, run: str, events: Sequence[Recorded]) -> Fit:
    """Would the app's code go on with this run? Replays its log once, as a coordinator does when it claims the run, and
    calls no agent."""
    try:
        started = read_event(events[0]) if events else None
    except PointsmanError as error:
        return Fit(run, "", 0, len(events), error.code, str(error))
    if not isinstance(started, RunStarted):
        return Fit(run, "", 0, len(events), CorruptLog.code, "the log does not begin with RunStarted")
    found = Fit(run, started.workflow, started.workflow_version, len(events))
    workflow = app.directory.workflow(started.workflow, started.workflow_version)
    if workflow is None:
        has = ", ".join(f"{d.workflow} v{d.version}" for d in app.directory.definitions()) or "none"
        message = f"the app has no workflow {started.workflow} v{started.workflow_version}; it has {has}"
        return replace(found, code=UnknownWorkflow.code, message=message)
    execution = Execution(run, workflow, app.directory)
    try:
        with apart():
            execution.replay(events)
        return replace(found, warnings=tuple(execution.warnings))
    except NonDeterministicWorkflow as error:
        return replace(
            found, code=error.code, message=str(error), recorded=error.recorded, produced=error.produced
        )  # fmt: skip
    except (CodeChanged, CorruptLog, InvalidInput, InvalidState) as error:
        return replace(found, code=error.code, message=str(error))
    finally:
        execution.close()
