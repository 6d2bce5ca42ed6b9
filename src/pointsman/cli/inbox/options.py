"""What the verbs on human tasks share."""

from __future__ import annotations

from typing import Annotated

import typer

from pointsman.cli.client import Client, item_path

TaskId = Annotated[str, typer.Argument(metavar="TASK", help="The task's id, as `inbox ls` shows it.")]
Digest = Annotated[
    str | None,
    typer.Option(
        help="Of what you saw, as `inbox show` says it: then nothing else is answered. Whatever is asked, without."
    ),
]


def digest_of(client: Client, task: str, given: str | None) -> str:
    """The digest that an answer says: the one given, or that of the question as it is now."""
    return given if given is not None else str(client.get(item_path("tasks", task))["digest"])
