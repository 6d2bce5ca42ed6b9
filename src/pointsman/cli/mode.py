"""`pointsman mode`: full, degraded, emergency: what decides it, and a hand on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.client import Client
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, By, Token, Url, person

WISHES = ("full", "degraded", "emergency", "auto")

mode = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See the cluster's mode, and set it.")


@mode.command("show")
@guarded
def show(as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show the mode, what decides it, and its latest changes."""
    with Client(url, token) as client:
        found = client.get("/v1/mode")
    if as_json:
        output.print_json(found)
        return
    _say(found)
    out = output.table(["signal", "now", "degraded from", "emergency from"], right=("now",))
    for signal in found["signals"]:
        out.add_row(
            signal["name"], f"{signal['value']:.3f}", f"{signal['degraded']:g}", f"{signal['emergency']:g}",
        )  # fmt: skip
    output.print_table(out)
    for change in found["changes"]:
        typer.echo(output.clean(f"{change['at']}  {_text(change['type'], change['data'])}"))


@mode.command("set")
@guarded
def set_(
    wish: Annotated[str, typer.Argument(metavar="MODE", help=f"{', '.join(WISHES)}; auto: what is measured decides.")],
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    by: By = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Pin the mode until it is set to auto. All coordinators see it within a second."""
    if wish not in WISHES:
        raise Usage(f"{wish}: the mode is one of {', '.join(WISHES)}")
    body = {"mode": wish, "by": person(by), "reason": reason}
    with Client(url, token) as client:
        found = client.put("/v1/mode", json.dumps(body).encode())
    if as_json:
        output.print_json(found)
    else:
        _say(found)


def _say(found: Mapping[str, Any]) -> None:
    how = f"pinned by {found['by']}" if found["pinned"] else "by what is measured"
    why = f": {found['cause']} ({found['by']})" if found["since"] else ""
    typer.echo(output.clean(f"the mode is {found['mode']}, {how}{why}"))


def _text(kind: str, data: Mapping[str, Any]) -> str:
    if kind == "ModeChanged":
        low = "every signal is low again"
        why = f"{data['signal']} {data['value']:.3g} ≥ {data['threshold']:.3g}" if data.get("signal") else low
        return f"measured {data['mode']}, was {data['before']}: {why} ({data.get('coordinator', '')})"
    what = f"pinned {data['mode']}" if kind == "ModePinned" else "unpinned" if kind == "ModeUnpinned" else kind
    return f"{what} by {data.get('by', '')}" + (f": {data['reason']}" if data.get("reason") else "")
