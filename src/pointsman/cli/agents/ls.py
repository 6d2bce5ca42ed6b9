"""`pointsman agents ls`: all agents, and which of them get calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from pointsman.cli import output
from pointsman.cli.client import Client
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url

STYLES = {
    "healthy": "green", "unhealthy": "bold red", "closed": "green", "open": "bold red", "half-open": "yellow",
    "unknown": "dim",
}  # fmt: skip


@guarded
def ls(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """List the agents by name."""
    with Client(url, token) as client:
        page = client.get("/v1/agents")
    if as_json:
        output.print_json(page)
        return
    out = output.table(["agent", "gets calls", "health", "breaker", "can do", "where"])
    for agent in page["agents"]:
        card = agent["card"]
        out.add_row(
            output.text(agent["name"]), gets_calls(agent), state(agent["health"]), state(agent["breaker"]),
            output.text(", ".join(card.get("capabilities", ()))), output.text(where(agent)),
        )  # fmt: skip
    output.print_table(out)


def gets_calls(agent: Mapping[str, Any]) -> Text:
    """Yes, or why not."""
    return output.text("yes", "green") if agent["problem"] is None else output.text(f"no: {agent['problem']}", "red")


def state(said: str) -> Text:
    return output.text(said, STYLES.get(said, ""))


def where(agent: Mapping[str, Any]) -> str:
    until = f", until {agent['expires_at']}" if agent["expires_at"] else ""
    if agent["card"].get("transport") == "pull":
        return f"{agent['workers']} worker{'s' if agent['workers'] != 1 else ''}{until}"
    if agent["card"].get("url") is None:
        return "in process"
    return f"{agent['card']['url']}{until}"
