"""A time line as text: one row for each span with its bar, one for each mark, and inputs in full.

Pure but for the width that it is given. Must not know where events come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from pointsman.cli.output import clean, duration, preview, readable, status_text, table, text, to_ms
from pointsman.cli.runs.costs import amount_text, budget_text
from pointsman.cli.runs.timeline import Attempt, Mark, Span, Timeline, failure_text

BAR_WIDTH = 28
PREVIEW_WIDTH = 44
REASON_WIDTH = 72
"""Of a mark whose text the header has in full."""
FULL, FAILED, EMPTY, WAIT, OPEN = "█", "▒", " ", "·", "▸"
MARK_STYLES = {
    "damaged": "bold red", "repaired": "bold magenta",
    "takeover": "bold magenta", "failed": "bold red", "stopped": "bold yellow", "cancel": "yellow",
    "signal": "blue", "end": "green", "next": "yellow", "held": "yellow", "person": "bold blue", "answer": "blue",
    "skipped": "yellow", "overspent": "bold yellow",
}  # fmt: skip
OUTCOME_STYLES = {
    "completed": "green", "answered": "green", "edited": "green", "failed": "bold red", "refused": "bold red",
    "expired": "bold red", "cancelled": "yellow",
    "given up": "yellow", "default instead": "yellow", "held back": "yellow", "with a person": "bold blue",
}  # fmt: skip


def header(run: Mapping[str, Any], timeline: Timeline) -> list[Text]:
    """What the run is, in a few lines."""
    first = Text.assemble(
        text(run["id"], "bold"),
        "  ",
        text(f"{run['workflow']} v{run['version']}"),
        "  ",
        status_text(run["status"]),
    )
    took = duration(timeline.last - timeline.start)
    facts = [f"started {run['created_at']}", f"{took} so far" if run["ended_at"] is None else f"took {took}"]
    facts += [f"{run['sequence']} events", f"tenant {run['tenant']}", f"epoch {run['epoch']}"]
    if run["takeovers"]:
        facts.append(f"taken over {run['takeovers']} × without progress since")
    spent, budget = timeline.spent, budget_text(timeline.budget)
    if spent or budget:
        facts.append(f"spent {spent}{f' of {budget}' if budget else ''}")
    if run.get("parent"):
        facts.append(f"child of {run['parent']}")
    if run["wake_at"] is not None:
        facts.append(f"due {run['wake_at']}")
    lines = [first, text(" · ".join(facts), "dim")]
    if run["attributes"]:
        lines.append(text("  ".join(f"{k}={preview(v, 80)}" for k, v in run["attributes"].items()), "dim"))
    if run.get("failure"):
        lines.append(text(failure_text(run["failure"]), "bold red"))
    elif run.get("stranded"):
        lines.append(text(f"stranded: {run['stranded']}", "bold yellow"))
    elif "output" in run:
        lines.append(text(f"output {preview(run['output'], 400)}", "green"))
    return lines


def state(stands: Mapping[str, Any]) -> Text:
    """What the run says of itself."""
    said = f"state v{stands['version']} {preview(stands['value'], 400)}"
    return Text.assemble(text(said, "cyan"), text(f"  (event {stands['sequence']})", "dim"))


def rows(timeline: Timeline) -> Table:
    """The timeline itself, without the steps of failure chains; what things cost only where something is counted."""
    has_costs = bool(timeline.spent)
    columns = ["time", "call", "agent", "tries", "took", "", *(["cost"] if has_costs else []), "outcome"]
    out = table(columns, right=("time", "tries", "took", "cost"))
    for row in timeline.rows():
        since = text(f"+{duration(_at(row) - timeline.start)}", "dim")
        if isinstance(row, Mark):
            if not row.call:
                said = text(f"── {_mark_text(row)}", MARK_STYLES.get(row.kind, "dim"))
                out.add_row(since, *[""] * (len(columns) - 2), said)
            continue
        end = row.end if row.end is not None else timeline.last
        out.add_row(
            since, text(row.call), _who(row), text(row.tries or "", "yellow" if row.tries > 1 else ""),
            text(duration(end - row.start)), bar(row, timeline.start, timeline.last),
            *([text(row.account.spent or "")] if has_costs else []), _outcome(row),
        )  # fmt: skip
    return out


def steps(timeline: Timeline) -> Table | None:
    """What became of calls that an agent could not do at once: why, and who got them next. Sentences, so they have
    columns of their own: beside a bar they would be cut to a few letters a line."""
    told = [mark for mark in timeline.marks if mark.call]
    if not told:
        return None
    out = table(["time", "call", "what happened to it"], right=("time",))
    for mark in told:
        since = text(f"+{duration(mark.at - timeline.start)}", "dim")
        out.add_row(since, text(mark.call), text(mark.text, MARK_STYLES.get(mark.kind, "dim")))
    return out


def _who(span: Span) -> Text:
    if span.kind == "call":
        return text(" → ".join(span.chain or [span.target]), "yellow" if len(span.chain) > 1 else "")
    return text(span.target if span.kind == "child" else span.kind, "blue")


def bar(span: Span, start: int, last: int, width: int = BAR_WIDTH) -> Text:
    """Where in the run's time the span lies; failed attempts and waiting between them look different."""
    scale = width / max(last - start, 1)

    def columns(from_ms: int, to_ms: int | None) -> tuple[int, int]:
        left = min(int((from_ms - start) * scale), width - 1)
        right = width if to_ms is None else max(int((to_ms - start) * scale), left + 1)
        return left, min(right, width)

    cells, styles = [EMPTY] * width, [""] * width
    left, right = columns(span.start, span.end)
    for column in range(left, right):
        cells[column], styles[column] = WAIT, "dim"
    if span.with_person is not None:
        left, right = columns(span.with_person, span.end)
        styles[left:right] = ["blue"] * (right - left)
    parts = span.attempts
    if not parts and (span.kind != "call" or span.failure):
        parts = [Attempt(span.start, span.end, span.failure)]
    is_waiting = span.kind in ("timer", "signal")
    for part in parts:
        left, right = columns(part.start, part.end)
        for column in range(left, right):
            cells[column] = FAILED if part.failure else WAIT if is_waiting or part.is_held else FULL
            styles[column] = "red" if part.failure else "blue" if span.kind != "call" else "green"
    if span.end is None:
        cells[-1], styles[-1] = OPEN, "cyan"
    out = Text(no_wrap=True)
    for cell, style in zip(cells, styles, strict=True):
        out.append(cell, style)
    return out


def inputs(timeline: Timeline) -> list[Text]:
    """Every input in full, as it was recorded."""
    lines = _block("input of the run", timeline.input)
    for span in timeline.spans:
        if span.has_input:
            lines += _block(f"{span.call} → {span.target}", span.input)
    return lines


def event_line(event: Mapping[str, Any], since_ms: int) -> Text:
    """One event in one line, for `tail`."""
    since, sequence = text(f"{'+' + duration(since_ms):>10}", "dim"), text(f"{event['sequence']:>5}  ", "dim")
    return Text.assemble(since, sequence, event_text(event))


def event_text(event: Mapping[str, Any]) -> Text:
    """What an event is about, in one line."""
    data, kind = event["data"] or {}, event["type"]
    if event.get("damage"):
        data = {"failure": {"kind": "damaged", "message": event["damage"]}}
    failure = data.get("failure")
    named = ("call", "target", "name", "agent", "task", "by", "run", "status")
    about = " ".join(str(data[name]) for name in named if data.get(name))
    if "attempt" in data and data["attempt"] > 1:
        about += f" (attempt {data['attempt']})"
    said = failure_text(failure) if failure else ""
    for name in ("amount", "spent"):
        if data.get(name) and kind in ("CallReserved", "CallOverspent"):
            said = amount_text(data[name])
    if data.get("question"):
        said = f"“{preview(data['question'], 100)}”, because {said}"
    if data.get("retry_at"):
        said += f"; again in {duration(max(data['retry_at'] - to_ms(event['at']), 0))}"
    if data.get("passed_over"):
        said += f"; passed over: {', '.join(data['passed_over'])}"
    for name in ("output", "payload", "value", "reason", "message"):
        if not said and name in data and data[name] not in (None, ""):
            said = preview(data[name], 100)
    style = "red" if failure else "green" if kind in ("CallCompleted", "RunCompleted") else ""
    return Text.assemble(
        text(f"{kind:<17}", style), text(f" {about}"),
        text(f"  {said}" if said else "", "red" if failure else "dim"),
    )  # fmt: skip


def _block(title: str, value: Any) -> list[Text]:
    first, *rest = readable(value, 1)
    lines = [Text(""), text(f"── {title}", "bold")]
    if first:
        lines.append(Text("  " + first))
    return lines + [Text(line) for line in rest]


def _mark_text(mark: Mark) -> str:
    return preview(mark.text, REASON_WIDTH) if mark.kind in ("stopped", "failed") else mark.text


def _outcome(span: Span) -> Text:
    said: str = span.outcome
    if span.failure:
        said = f"{said}: {failure_text(span.failure)}"
    elif span.output is not None and span.kind != "timer":
        said = f"{said}  {preview(span.output, PREVIEW_WIDTH)}"
    out = text(said, OUTCOME_STYLES.get(span.outcome, ""))
    untold = [a for a in (span.attempts[:-1] if span.failure else span.attempts) if a.failure and not a.is_told]
    for said, same in groupby(failure_text(attempt.failure) for attempt in untold):
        times = len(list(same))
        out.append(clean(f" · {f'{times} × ' if times > 1 else ''}{said}"), "red")
    for note in span.notes:
        out.append(clean(f" · {note}"), "yellow" if span.kind == "call" else "dim")
    return out


def _at(row: Span | Mark) -> int:
    return row.start if isinstance(row, Span) else row.at
