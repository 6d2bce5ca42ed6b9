"""`pointsman agents show`: one agent and its card."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from pointsman.cli import completing, output
from pointsman.cli.agents.ls import gets_calls, state, where
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url

AgentName = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name.", autocompletion=completing.agents)]


@guarded
def show(name: AgentName, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show an agent: whether it gets calls, how it is, and its card."""
    with Client(url, token) as client:
        agent = client.get(item_path("agents", name))
    if as_json:
        output.print_json(agent)
        return
    console = output.console()
    facts = (("  gets calls ", gets_calls(agent)), ("  health ", state(agent["health"])),
             ("  breaker ", state(agent["breaker"])))  # fmt: skip
    console.print(Text.assemble(output.text(agent["name"], "bold"), *(part for fact in facts for part in fact)))
    console.print(output.text(where(agent), "dim"))
    for line in output.readable(agent["card"])[1:]:
        console.print(Text(line), soft_wrap=True)
