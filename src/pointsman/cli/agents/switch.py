"""`pointsman agents enable` and `disable`: switch an agent on and off, everywhere at once."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.agents.show import AgentName
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url


@guarded
def enable(name: AgentName, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Let an agent have calls again."""
    with Client(url, token) as client:
        _, agent = client.post(item_path("agents", name, "enable"), None)
    _say(agent, as_json=as_json)


@guarded
def disable(
    name: AgentName,
    reason: Annotated[str, typer.Option(help="For whoever reads a run that went elsewhere.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Give an agent no more calls. Those under way go on, others go to its fallbacks."""
    with Client(url, token) as client:
        _, agent = client.post(item_path("agents", name, "disable"), json.dumps({"reason": reason}).encode())
    _say(agent, as_json=as_json)


def _say(agent: Any, *, as_json: bool) -> None:
    if as_json:
        output.print_json(agent)
        return
    why = f", but gets no calls: {agent['problem']}" if agent["enabled"] and agent["problem"] else ""
    typer.echo(output.clean(f"{agent['name']} is {'enabled' if agent['enabled'] else 'disabled'}{why}"))
