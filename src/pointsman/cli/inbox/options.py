"""Options that the verbs on human tasks share."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from pointsman.cli.exits import Usage

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, as `inbox ls` shows it.")]
By = Annotated[
    str | None,
    typer.Option("--by", envvar="POINTSMAN_USER", help="Who says so; the user of this machine without."),
]


def person(by: str | None) -> str:
    """Raises: Usage: nobody is named, and this machine does not know who asks."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise Usage("--by is missing (or POINTSMAN_USER): say who you are") from None
