"""What is written to stdout: JSON and nothing else, or tables that are plain where stdout is no terminal.

Must not know what it shows. Text that came from outside goes through `clean`: a run's data must not steer
a terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

STATUS_STYLES = {
    "running": "cyan", "parked": "blue", "completed": "green", "failed": "bold red", "cancelled": "yellow",
    "open": "blue", "answered": "green", "refused": "bold red", "expired": "bold yellow",
    "stopped": "bold yellow", "quarantined": "bold magenta", "pending": "cyan",
}  # fmt: skip
PIPED_WIDTH = 10_000
"""Columns where stdout is no terminal: nothing is wrapped or cut for somebody who is not there."""


def console() -> Console:
    """stdout, made when it is needed, because tests and pipes exchange it."""
    if sys.stdout.isatty():
        return Console(highlight=False, emoji=False)
    return Console(
        file=sys.stdout, width=PIPED_WIDTH, no_color=True, color_system=None, highlight=False, emoji=False,
        soft_wrap=True,
    )  # fmt: skip


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def clean(value: str) -> str:
    """Remove control characters."""
    return "".join(c if c.isprintable() else " " for c in value)


def text(value: object, style: str = "") -> Text:
    return Text(clean(str(value)), style=style, overflow="fold")


def status_text(status: str) -> Text:
    return text(status, STATUS_STYLES.get(status, ""))


def table(columns: Iterable[str], *, right: Sequence[str] = ()) -> Table:
    """A table: ruled on a terminal, columns of plain text elsewhere."""
    is_terminal = sys.stdout.isatty()
    out = Table(
        box=box.SIMPLE_HEAD if is_terminal else None, pad_edge=False, show_edge=False,
        header_style="bold" if is_terminal else "",
    )  # fmt: skip
    for column in columns:
        out.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return out


def print_table(what: Table) -> None:
    """Print a table. Trailing blanks are kept on terminals only."""
    out = console()
    if out.is_terminal:
        out.print(what)
        return
    with out.capture() as captured:
        out.print(what)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def to_ms(iso: str) -> int:
    """Milliseconds since 1970 of the API's times."""
    return round(datetime.fromisoformat(iso).timestamp() * 1000)


def duration(ms: float) -> str:
    """`48 ms`, `1.3 s`, `4 m 05 s`, `3 h 20 m`, `2 d 4 h`."""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < 3_600:
        return f"{seconds // 60} m {seconds % 60:02} s"
    if seconds < 86_400:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60:02} m"
    return f"{seconds // 86_400} d {seconds % 86_400 // 3_600} h"


def ago(iso: str) -> str:
    """How long ago by this machine's clock, for people only."""
    return f"{duration(max(datetime.now(UTC).timestamp() * 1000 - to_ms(iso), 0))} ago"


def preview(value: Any, width: int) -> str:
    """Format a value on one line, cut to `width` characters."""
    flat = clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def readable(value: Any, indent: int = 0) -> list[str]:
    """A value in full, in lines: strings of several lines keep them, which is how prompts are read."""
    pad = "  " * indent
    if isinstance(value, str) and "\n" in value:
        return ["|", *(pad + clean(line) for line in value.split("\n"))]
    if isinstance(value, dict) and value:
        lines = [""]
        for key, item in value.items():
            first, *rest = readable(item, indent + 1)
            lines += [f"{pad}{clean(str(key))}: {first}".rstrip(), *rest]
        return lines
    if isinstance(value, list) and value:
        lines = [""]
        for item in value:
            first, *rest = readable(item, indent + 1)
            lines += [f"{pad}- {first}".rstrip(), *rest]
        return lines
    return [clean(json.dumps(value, ensure_ascii=False))]
