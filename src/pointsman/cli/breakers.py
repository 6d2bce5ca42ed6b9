"""`pointsman breakers`: the agents' circuit breakers, and a hand on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.agents.ls import state as state_text
from pointsman.cli.agents.show import AgentName
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url
from pointsman.kernel.policy.breaker import PINS

breakers = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See circuit breakers, and pin them.")


@breakers.command("ls")
@guarded
def ls(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List the breakers. What they did last, why, and what they saw lately."""
    with Client(url, token) as client:
        page = client.get("/v1/breakers")
    if as_json:
        output.print_json(page)
        return
    out = output.table(["agent", "breaker", "pinned", "since", "calls", "failed", "slow", "why"],
                       right=("calls", "failed", "slow"))  # fmt: skip
    for breaker in page["breakers"]:
        out.add_row(
            output.text(breaker["agent"]), state_text(breaker["state"]),
            output.text(breaker["pinned"] or "", "bold yellow"),
            output.ago(breaker["since"]) if breaker["since"] else "",
            str(breaker["calls"]), str(breaker["failures"]), str(breaker["slow"]), output.text(breaker["reason"]),
        )  # fmt: skip
    output.print_table(out)


@breakers.command("pin")
@guarded
def pin(
    name: AgentName,
    state: Annotated[str, typer.Argument(metavar="open|closed", help="open: no calls; closed: all calls.")],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Hold a breaker open or closed until it is unpinned."""
    if state not in PINS:
        raise Usage(f"{state}: a breaker is pinned open or closed")
    with Client(url, token) as client:
        _, breaker = client.post(item_path("breakers", name, "pin"), json.dumps({"state": state}).encode())
    _say(breaker, as_json=as_json)


@breakers.command("unpin")
@guarded
def unpin(name: AgentName, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Let a breaker decide by itself again."""
    with Client(url, token) as client:
        _, breaker = client.post(item_path("breakers", name, "unpin"), None)
    _say(breaker, as_json=as_json)


def _say(breaker: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(breaker)
        return
    pinned = f"pinned {breaker['pinned']}" if breaker["pinned"] else f"{breaker['state']}, and decides by itself"
    typer.echo(output.clean(f"the breaker of {breaker['agent']} is {pinned}"))
