"""`pointsman inbox show`: one question, with all that it takes to answer it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from pointsman.cli import output
from pointsman.cli.client import Client, item_path
from pointsman.cli.exits import guarded
from pointsman.cli.inbox.options import TaskId
from pointsman.cli.options import DEFAULT_URL, AsJson, Token, Url


@guarded
def show(task: TaskId, as_json: AsJson = False, url: Url = DEFAULT_URL, token: Token = None) -> None:
    """Show a question. What was asked of the agent, what failed, and which answers fit."""
    with Client(url, token) as client:
        found = client.get(item_path("tasks", task))
    if as_json:
        output.print_json(found)
        return
    console = output.console()
    for line in lines(found):
        console.print(line, soft_wrap=True)


def lines(task: Mapping[str, Any]) -> Iterator[Text]:
    """The task as text."""
    yield Text.assemble(output.text(task["id"], "bold"), "  ", output.status_text(task["status"]))
    about = (f"run {task['run']}", f"call {task['call']}", f"workflow {task['workflow']}", f"tenant {task['tenant']}")
    yield output.text(" · ".join([*about, f"asked {task['opened_at']}"]), "dim")
    yield output.text(task["question"], "bold blue")
    yield from _terms(task)
    if "agent" in task:
        yield from _block("what was tried", [_attempt(attempt) for attempt in task["attempts"]] or ["nothing"])
        yield from _block(f"input of {task['agent']}", output.readable(task["input"], 1))
    if "context" in task:
        yield from _block("context", output.readable(task["context"], 1))
    if "proposed" in task:
        yield from _block("the proposed answer", output.readable(task["proposed"], 1))
    if task["answer"] is not None:
        yield from _answer(task["answer"])
        return
    schema = task["output_schema"]
    known = "nobody here knows: this coordinator has no such agent" if schema is None else json.dumps(schema)
    yield from _block("an answer is JSON of this schema", [known])
    if task["status"] == "open":
        yield Text("")
        accept = "--accept" if "proposed" in task else "JSON"
        bound = f"--digest {task['digest']}"
        yield output.text(f"pointsman inbox answer {task['id']} {accept} {bound}", "dim")
        yield output.text(f"pointsman inbox refuse {task['id']} {bound} --reason TEXT", "dim")


def _terms(task: Mapping[str, Any]) -> Iterator[Text]:
    """Whose it is, whose it was, and until when."""
    said = [f"assigned to {task['assignee']}" if task["assignee"] else "assigned to nobody"]
    if task["status"] == "open":
        said += [f"goes to {step['assignee']} at {step['at']}" for step in task["escalations"]]
    if task["expires_at"]:
        said.append(f"expires at {task['expires_at']}")
    yield output.text(" · ".join(said), "dim")
    for one in task["handovers"]:
        how = (
            f"given to {one['assignee'] or 'nobody'} by {one['by']}" if one["by"] else f"escalated to {one['assignee']}"
        )
        yield output.text(f"{one['at']}  {how}", "dim")


def _attempt(attempt: Mapping[str, Any]) -> str:
    failure = attempt["failure"]
    said = f"{failure['kind']}: {failure.get('message', '')}".rstrip(": ")
    return f"{attempt['at']}  try {attempt['attempt']}, {attempt['agent']}: {said}"


def _answer(answer: Mapping[str, Any]) -> Iterator[Text]:
    failure = answer.get("failure")
    said = output.readable(answer["output"], 1) if failure is None else [failure.get("message", "refused")]
    title = f"answer of {answer['by']}, {answer['at']}" if answer["by"] else f"no answer, {answer['at']}"
    yield from _block(f"{title}, edited" if answer["edited"] else title, said)


def _block(title: str, said: list[str]) -> Iterator[Text]:
    yield Text("")
    yield output.text(f"── {title}", "bold")
    for line in said:
        if line:
            yield Text(f"  {output.clean(line.removeprefix('  '))}")
