"""What the verbs on human tasks share."""

from __future__ import annotations

from typing import Annotated

import typer

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, as `inbox ls` shows it.")]
