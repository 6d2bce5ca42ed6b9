"""What `pointsman dev` shows: lines as things happen, and on a terminal a table of the runs below them.

Must not know where any of it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pointsman.cli import output
from pointsman.cli.dev.following import Look
from pointsman.cli.runs.drawing import event_text

TOLD = frozenset({
    "RunStarted", "AttemptFailed", "CallFailed", "CallReassigned", "HumanTaskOpened", "SignalReceived", "RunRestarted",
    "RunStopped", "RunRedriven", "LogRepaired", "RunCompleted", "RunFailed", "RunWasCancelled",
})  # fmt: skip
"""Events that are worth a line. The others are seen in the table, and in `pointsman runs show`."""
AROUND = 8
"""Lines of the terminal that the table leaves free."""
LOGGED = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ (\w+) ")
QUIET = frozenset({"DEBUG", "INFO"})
INTRODUCTION = '{"app":'
"""What a coordinator says of itself at its start begins so (`--json`)."""


class View:
    """`start`, then what comes; `stop` leaves the last table standing."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or output.console()
        self._live: Live | None = None
        self._said: set[str] = set()

    def start(self) -> None:
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, level: str, sentence: str) -> None:
        """Of the supervisor itself. What a process has said once it may say again: there is a new one, or a mistake."""
        self._said.clear()
        self._line(output.text(sentence, "bold red" if level == "error" else "bold"))

    def log(self, line: str) -> None:
        """A line of the process: what the program prints, and warnings of the coordinator, each once."""
        logged = LOGGED.match(line)
        if line.startswith(INTRODUCTION) or (logged is not None and logged[1] in QUIET):
            return
        if logged is not None:
            said = line[logged.end() :]
            if said in self._said:
                return
            self._said.add(said)
        self._line(output.text(line, "yellow" if logged is not None else ""))

    def show(self, look: Look) -> None:
        for run, event in look.events:
            if event["type"] in TOLD:
                self._line(Text.assemble(output.text(f"{run} ", "dim"), event_text(event)))
        if self._live is not None:
            self._live.update(Group(Text(), _table(look, self._console.height - AROUND)), refresh=True)

    def _line(self, line: Text) -> None:
        stamp = output.text(f"{datetime.now().astimezone():%H:%M:%S} ", "dim")
        shown = Text.assemble(stamp, line)
        shown.rstrip()
        self._console.print(shown, soft_wrap=True)
        self._console.file.flush()


def _table(look: Look, height: int) -> Table:
    out = output.table(["run", "workflow", "status", "events", "last", "for"], right=("events", "for"))
    for run in look.runs[: max(height, 1)]:
        last = look.last.get(run["id"])
        out.add_row(
            output.text(run["id"]), output.text(f"{run['workflow']} v{run['version']}"),
            output.status_text(run["status"]), str(run["sequence"]), _short(last), _took(run),
        )  # fmt: skip
    if not look.runs:
        out.add_row(output.text("no runs yet: pointsman runs start WORKFLOW '{…}'", "dim"), "", "", "", "", "")
    return out


def _short(event: Mapping[str, Any] | None) -> Text:
    shown = event_text(event) if event is not None else Text()
    shown.no_wrap, shown.overflow = True, "ellipsis"
    return shown


def _took(run: Mapping[str, Any]) -> str:
    if run["ended_at"] is None:
        return output.ago(run["created_at"]).removesuffix(" ago")
    return output.duration(output.to_ms(run["ended_at"]) - output.to_ms(run["created_at"]))
