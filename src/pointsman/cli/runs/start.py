"""`pointsman runs start`: start a run, and wait for it when asked to."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from pointsman.cli import completing, output
from pointsman.cli.client import Client
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url
from pointsman.cli.runs.result import print_result


@guarded
def start(
    workflow: Annotated[str, typer.Argument(help="The workflow's name.", autocompletion=completing.workflows)],
    input_json: Annotated[
        str, typer.Argument(metavar="INPUT", help="Its input as JSON; `-` reads it from stdin.")
    ] = "null",
    id: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option("--id", help="The run's id: starting it again is the same run.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Of the workflow; else the newest.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose run it is.")] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="To find it by; V as JSON, else text; may be repeated."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and show what it gave.")] = False,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds that --wait waits.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Start a run. Prints its id."""
    if timeout is not None and not wait:
        raise Usage("--timeout says how long --wait waits: give both, or neither")
    if id == "":
        raise Usage("--id is empty: give one, or leave it out for a new one")
    # The id is made here, so that the request may be repeated when its answer is lost.
    from pointsman.app import SystemIds  # it brings what a coordinator needs, which no other verb of `runs` does

    given: dict[str, Any] = {"version": version, "tenant": tenant, "attributes": attributes(attribute or [])}
    fields: dict[str, Any] = {"workflow": workflow, "id": id if id is not None else SystemIds().run_id()}
    fields |= {name: value for name, value in given.items() if value}
    raw = read_json(input_json, "INPUT")
    body = json.dumps(fields, ensure_ascii=False).encode()[:-1] + b',"input":' + raw + b"}"
    with Client(url, token) as client:
        status, run = client.post("/v1/runs", body)
        if wait:
            print_result(client.result(run["id"], timeout), as_json=as_json)
            return
    if as_json:
        output.print_json(run)
        return
    typer.echo(run["id"])
    if status == 200:
        typer.echo(f"it was started before and is {run['status']}", err=True)


def read_json(argument: str, what: str) -> bytes:
    """JSON as it was given, byte for byte, once it is sure that it is JSON. Raises: Usage."""
    raw = sys.stdin.buffer.read() if argument == "-" else argument.encode("utf-8", "surrogateescape")
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{what} is not JSON ({error}); a text needs its quotes: '\"text\"'") from error
    return raw


def attributes(items: list[str]) -> dict[str, Any]:
    """Raises: Usage."""
    found: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key or key in found:
            raise Usage(f"--attribute {item}: give it as key=value, each key once")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
