"""`pointsman runs show`: one run's timeline."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from pointsman.cli import output
from pointsman.cli.client import HELD, Client, run_path
from pointsman.cli.exits import guarded
from pointsman.cli.options import DEFAULT_URL, AsJson, RunId, Token, Url
from pointsman.cli.runs import drawing, folding, plans

PAGE = 500


@guarded
def show(
    run: RunId,
    inputs: Annotated[bool, typer.Option("--inputs", help="Every input (every prompt) in full.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Show a run: what happened when, who did it, what failed."""
    with Client(url, token) as client:
        head = client.get(run_path(run))
        state = client.get(run_path(run, "state"))
        events = all_events(client, run, inputs=inputs)
    story = folding.build(events, now(head))
    drawn = [plans.read(call, tasks, story.spans, is_over=story.is_over) for call, tasks in story.plans.items()]
    if as_json:
        told = [plans.plain(plan) for plan in drawn]
        output.print_json({"run": head, "state": state, "events": events, "plans": told})
        return
    console = output.console()
    for line in drawing.header(head, story):
        console.print(line)
    if state["version"] is not None:
        console.print(drawing.state(state))
    for plan in drawn:
        console.print()
        output.print_table(plans.drawing(plan, story.last))
    console.print()
    output.print_table(drawing.rows(story))
    if (steps := drawing.steps(story)) is not None:
        console.print()
        output.print_table(steps)
    if inputs:
        for line in drawing.inputs(story):
            console.print(line, soft_wrap=True)


def now(head: Mapping[str, Any]) -> int | None:
    """How far the run's time goes beyond its last event: to now while it goes on, by this machine's clock."""
    goes_on = head["ended_at"] is None and head["status"] not in HELD
    return round(datetime.now(UTC).timestamp() * 1000) if goes_on else None


def all_events(client: Client, run: str, *, inputs: bool) -> list[Any]:
    """A run's whole stream, page by page."""
    events: list[Any] = []
    after: int | None = 0
    while after is not None:
        page = client.get(
            run_path(run, "events"), after=after, limit=PAGE, inputs="true" if inputs else None
        )  # fmt: skip
        events += page["events"]
        after = page["next_after"]
    return events
