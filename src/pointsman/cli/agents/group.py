"""The verbs on agents, put together."""

from __future__ import annotations

import typer

from pointsman.cli.agents.ls import ls
from pointsman.cli.agents.serve import serve
from pointsman.cli.agents.show import show
from pointsman.cli.agents.switch import disable, enable

agents = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="See agents, switch them on and off, serve them."
)
for verb in (ls, show, enable, disable, serve):
    agents.command(verb.__name__)(verb)
