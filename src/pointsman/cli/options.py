"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.cli.client import DEFAULT_URL

Url = Annotated[
    str,
    typer.Option("--url", envvar="POINTSMAN_URL", help="The router's or a coordinator's address.", show_default=True),
]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="POINTSMAN_TOKEN", help="Bearer token; better given by the environment."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else.")]
RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="POINTSMAN_STORE",
        metavar="URL",
        help="postgresql://user:password@host:port/db, or sqlite:///file.db for one process.",
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

__all__ = ["DEFAULT_URL", "AsJson", "MaxAge", "MaxRss", "RunId", "Store", "Token", "Url"]
