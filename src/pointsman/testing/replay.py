"""Replay a recorded history from every prefix, and say whether the code still fits it.

A history is a file of JSON lines, one event each, with its body as text (`save`, `load`). Recorded histories are
kept for ever; `python -m pointsman.testing.replay MODULE:APP FILE...` replays them in a process of its own, so that
another PYTHONHASHSEED shows what depends on the order of a set.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import msgspec

from pointsman.app import App
from pointsman.kernel.errors import UnknownWorkflow
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
            execution.replay(events[:length])
            state = execution.state
        finally:
            execution.close()
    return state


def main(arguments: Sequence[str]) -> int:
    """Replay files against an app; 0 when all fit."""
    module, _, attribute = arguments[0].partition(":")
    app = getattr(import_module(module), attribute)
    for name in arguments[1:]:
        state = replay_prefixes(app, Path(name).stem, load(Path(name)))
        print(f"{name}: {state.sequence} events, {type(state.outcome).__name__}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
