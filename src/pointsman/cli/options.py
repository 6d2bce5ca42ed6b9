"""Options that several verbs share."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from pointsman.cli import completing
from pointsman.cli.client import DEFAULT_URL
from pointsman.cli.exits import Usage

Url = Annotated[
    str,
    typer.Option("--url", envvar="POINTSMAN_URL", help="The router's or a coordinator's address.", show_default=True),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="POINTSMAN_TOKEN", help="Bearer token; better given by the environment."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id.", autocompletion=completing.runs)]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="POINTSMAN_STORE",
        metavar="URL",
        help="postgresql://user:password@host:port/db, redis://host:port/db, or sqlite:///file.db for one process.",
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option("--max-age", metavar="SECONDS", help="A coordinator that is so old replaces its process."),
]
MaxRss = Annotated[
    int | None,
    typer.Option("--max-rss", metavar="MB", help="One that has more resident memory does too (on Linux)."),
]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error")]
WithParent = Annotated[int | None, typer.Option("--with-parent", hidden=True)]
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


__all__ = [
    "DEFAULT_URL", "AsJson", "By", "LogLevel", "MaxAge", "MaxRss", "RunId", "Store", "Token", "Url", "WithParent",
    "person",
]  # fmt: skip
