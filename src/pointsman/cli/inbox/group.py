"""The verbs on human tasks, put together."""

from __future__ import annotations

import typer

from pointsman.cli.inbox.answer import answer
from pointsman.cli.inbox.assign import assign
from pointsman.cli.inbox.ls import ls
from pointsman.cli.inbox.refuse import refuse
from pointsman.cli.inbox.show import show

inbox = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See what runs ask people, and answer it.")
inbox.command("ls")(ls)
for verb in (show, answer, refuse, assign):
    # An id may begin with a dash, and so may a number: `inbox answer TASK -5`.
    inbox.command(verb.__name__, context_settings={"ignore_unknown_options": True})(verb)
