"""`pointsman runs result`: wait for a run's end and show what it gave."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.client import HELD, Client
from pointsman.cli.exits import CommandError, Exit, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url
from pointsman.cli.runs.timeline import failure_text

WHAT_TO_DO = {
    "stopped": "deploy code that fits its log, and it goes on by itself",
    "quarantined": "a person must look at it; once what is wrong is mended, `pointsman runs release` lets it go on",
}


@guarded
def result(
    run: RunId,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait; for ever without. Exit code 4 when they are over."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Wait for a run and print its output as JSON. Exit code 1 when it failed, was cancelled, or is held back."""
    with Client(url, token) as client:
        print_result(client.result(run, timeout), as_json=as_json)


def print_result(answer: dict[str, Any], *, as_json: bool) -> None:
    """Raises: CommandError (it failed), Exit with --json."""
    completed = answer["status"] == "completed"
    if as_json:
        output.print_json(answer)
        if not completed:
            raise typer.Exit(Exit.FAILED)
        return
    if not completed:
        status = answer["status"]
        said = f"run {answer['id']} {'is ' if status in HELD else ''}{status}: {failure_text(answer.get('failure'))}"
        advice = "" if "deploy" in said else WHAT_TO_DO.get(status, "")
        error = CommandError("; ".join(filter(None, [said.rstrip(": "), advice])))
        error.code = f"run_{status}"
        raise error
    typer.echo(json.dumps(answer.get("output"), ensure_ascii=False, indent=2))
