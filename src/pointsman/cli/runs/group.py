"""The verbs on runs, put together."""

from __future__ import annotations

import typer

from pointsman.cli.runs.cancel import cancel
from pointsman.cli.runs.ls import ls
from pointsman.cli.runs.redrive import redrive
from pointsman.cli.runs.release import release
from pointsman.cli.runs.result import result
from pointsman.cli.runs.show import show
from pointsman.cli.runs.signal import signal
from pointsman.cli.runs.start import start
from pointsman.cli.runs.tail import tail

runs = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Start, see and steer runs, over the HTTP API.")
for verb in (ls, show, tail, start, signal, cancel, release, redrive, result):
    runs.command(verb.__name__)(verb)
