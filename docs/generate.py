"""Writes the pages that follow from the code: the command line, the events, the settings. `make docs` runs it, and
tests/docs/test_reference.py fails when a page is not what it gives.

    .venv/bin/python docs/generate.py
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer.main

from pointsman.api.settings import ApiSettings
from pointsman.cli.exits import Exit
from pointsman.cli.main import app
from pointsman.cli.settings import OWN_OPTIONS, ROUTERS_OWN_OPTIONS
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.events import EVENT_TYPES, TERMINAL, Cause, Event, Mailed, Note, Request
from pointsman.router import RouterSettings
from pointsman.stores.postgres.lease import HUNG_EXIT_CODE
from pointsman.stores.postgres.settings import PostgresSettings

REFERENCE = Path(__file__).parent / "reference"
WRITTEN = "Written from the code by `make docs`.\n"


def table(*heads: str, rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["|".join("---" for _ in heads), *(" | ".join(cell.replace("|", "&#124;") for cell in row) for row in rows)]
    head, rule, *rest = [" | ".join(heads), *lines]
    return "".join([f"| {head} |\n|{rule}|\n", *(f"| {row} |\n" for row in rest), "\n"])


def number(value: Any) -> str:
    """A default, for people."""
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:,}".removesuffix(".0").replace(",", " ")
    return str(value)


# ── the command line ─────────────────────────────────────────────────────────────────────────────

EXITS = {
    Exit.OK: "done",
    Exit.FAILED: "failed, refused or not found; also: the run failed, the doctor found something",
    Exit.USAGE: "wrong usage",
    Exit.UNREACHABLE: "the store or the API can't be reached or used",
    Exit.TIMEOUT: "the deadline passed first",
    HUNG_EXIT_CODE: "of a coordinator: its event loop hung, and its log has all stacks",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}
WITHOUT_OPTION = {
    "POINTSMAN_WEBHOOK_SECRET": "what the notices of `--webhook` are signed with",
    "POINTSMAN_CACHE": "where `pointsman demo` keeps the tickets that it fetched; `~/.cache/pointsman` without",
    "POINTSMAN_PG_BIN": "the `bin` directory of an installed PostgreSQL, in place of the embedded one",
}
CLI = f"""# Command line

{WRITTEN}
`pointsman --help` and `pointsman VERB --help` say the same. `--json` prints JSON on stdout and nothing else; an error
is then one JSON object on stderr, with `code`, `message` and `retryable`.

"""


def cli() -> str:
    commands = list(verbs("pointsman", typer.main.get_command(app)))
    exits = table("code", "meaning", rows=[(str(int(code)), meaning) for code, meaning in EXITS.items()])
    variables: dict[str, list[str]] = {}
    for _, command in commands:
        for option in command.params:
            names = variables.setdefault(option.envvar, []) if option.envvar else []
            names += [f"`{option.opts[0]}`"] if f"`{option.opts[0]}`" not in names else []
    rows = [(f"`{name}`", ", ".join(options)) for name, options in sorted(variables.items())]
    rows += [(f"`{name}`", meaning) for name, meaning in WITHOUT_OPTION.items()]
    out = [CLI, "## Exit codes\n\n", exits, "## Environment variables\n\n", table("variable", "stands for", rows=rows)]
    return "".join(out + [verb(name, command) for name, command in commands]).rstrip("\n") + "\n"


def verbs(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """All commands that do something, and groups before theirs."""
    if name != "pointsman":
        yield name, command
    for sub, one in getattr(command, "commands", {}).items():
        yield from verbs(f"{name} {sub}", one)


def verb(name: str, command: Any) -> str:
    if hasattr(command, "commands"):
        return f"## {name}\n\n{command.help}\n\n"
    depth = "##" if name.count(" ") == 1 else "###"
    arguments = [one for one in command.params if not one.opts[0].startswith("-")]
    words = [name, *(shown(one) if one.required else f"[{shown(one)}]" for one in arguments)]
    rows = [
        (argument_or_option(one), default(one), (one.help or "").rstrip("."))
        for one in command.params
        if not getattr(one, "hidden", False) and one.name != "help"
    ]
    told = table("argument or option", "default", "meaning", rows=rows) if rows else ""
    return f"{depth} {name}\n\n`{' '.join(words)}`\n\n{' '.join(command.help.split())}\n\n{told}"


def shown(one: Any) -> str:
    return str(one.metavar or one.name.upper())


def argument_or_option(one: Any) -> str:
    if not one.opts[0].startswith("-"):
        return f"`{shown(one)}`"
    value = "" if one.is_flag else f" {one.metavar or 'VALUE'}"
    names = ", ".join(f"`{name}{value}`" for name in one.opts)
    return f"{names}, `{one.envvar}`" if one.envvar else names


def default(one: Any) -> str:
    if one.required:
        return "required"
    return "" if one.default in (None, False) else f"`{one.default}`"


# ── the events ───────────────────────────────────────────────────────────────────────────────────

EVENTS = f"""# Events

{WRITTEN}
What a run's log may hold: {len(EVENT_TYPES)} types, each with a version of its own. A released version never changes.
Each event has besides, in the [API](http-api.md#read-and-follow-events) and in [SQL](../howto/query-with-sql.md), its
sequence, its time and the epoch of its author. Fields at their default are not written; *always* has none.

- A **cause** is what happened to the run. It is delivered to the workflow's body, which then runs until it waits again.
- A **request** is what the body did in answer. The requests of a cause follow it directly.
- A **note** is what the runtime decided or learned. The body never sees it.

Many events name a `call`: its id in the run. Times are milliseconds since 1970 by the database's clock. An input
stands in its event whole, as JSON in `input`, or in `pieces`, and then with its `digest`: `GET
/v1/runs/{{run}}/events?inputs=true` rebuilds it. `mail` is the number of the mail that an event came by.

The streams of the system (`agent/X`, `budget/X`, `mode`, `recycling`) have events of their own, which are no part of
a run.

"""
GROUPS: tuple[tuple[str, type[Event]], ...] = (("Causes", Cause), ("Requests", Request), ("Notes", Note))


def events() -> str:
    out, parts = [EVENTS], dict[str, type]()
    for title, group in GROUPS:
        out.append(f"## {title}\n\n")
        for name, cls in sorted(EVENT_TYPES.items()):
            if issubclass(cls, group):
                out += [f"### {name}\n\n", about(cls), fields(cls, parts)]
    out.append("## Parts of events\n\n")
    done: set[str] = set()
    while left := sorted(parts.keys() - done):
        for name in left:
            done.add(name)
            told = " ".join((inspect.getdoc(parts[name]) or "").partition("Attributes:")[0].split())
            out += [f"### {name}\n\n", f"{told}\n\n" if told else "", fields(parts[name], parts)]
    return "".join(out).rstrip("\n") + "\n"


def about(cls: type[Event]) -> str:
    if not cls.__doc__:
        raise ValueError(f"{cls.__name__} has no docstring, and readers want to know what it means")
    ways = [f"Version {cls.VERSION}."]
    if cls in typing.get_args(Mailed):
        ways.append("Comes by the run's mailbox.")
    if cls in TERMINAL:
        ways.append("Ends the run.")
    return f"{' '.join(cls.__doc__.split())} {' '.join(ways)}\n\n"


def fields(cls: type, parts: dict[str, type]) -> str:
    hints, said_of = typing.get_type_hints(cls), meanings(cls)
    rows = []
    for one in msgspec.structs.fields(cls):
        default = "*always*" if one.required else written(given(one))
        rows.append((f"`{one.encode_name}`", kind(hints[one.name], parts), default, said_of.get(one.name, "")))
    if any(row[3] for row in rows):
        return table("field", "type", "default", "meaning", rows=rows)
    return table("field", "type", "default", rows=[row[:3] for row in rows])


def given(one: msgspec.structs.FieldInfo) -> Any:
    return one.default if one.default_factory is msgspec.NODEFAULT else one.default_factory()


def written(value: Any) -> str:
    if isinstance(value, msgspec.Raw):
        return f"`{bytes(value).decode()}`" if bytes(value) else "absent"
    if isinstance(value, msgspec.Struct):
        return "empty"
    if isinstance(value, str | tuple | dict) and not value:
        return "empty"
    return f"`{msgspec.json.encode(value).decode()}`"


SIMPLE = {
    str: "text", int: "integer", float: "number", bool: "true or false", msgspec.Raw: "JSON", type(None): "null",
    Any: "JSON",
}  # fmt: skip


def kind(hint: Any, parts: dict[str, type]) -> str:
    """A type in words; structures are remembered in `parts`, and linked."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(kind(one, parts) for one in args)
    if origin is tuple:
        return f"list of {kind(args[0], parts)}"
    if origin is Mapping:
        return f"object of {kind(args[1], parts)}"
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in args)
    if isinstance(origin, type):
        return kind(origin, parts)
    parts[hint.__name__] = hint
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


# ── the settings ─────────────────────────────────────────────────────────────────────────────────

SETTINGS = f"""# Settings

{WRITTEN}
`pointsman coordinator --set NAME=VALUE` and `pointsman up --set NAME=VALUE` take those of the first three tables,
`pointsman router --set NAME=VALUE` those of the last. Coordinators and routers print what is in force when they
start; a name that does not exist or a value that makes no sense ends them with exit code 2. A unit stands at the end
of the name: `_ms`, `_s`, `_h`, `_days`, `_bytes_max`. When to change which is in
[Operations](../operations.md#limits).

"""


def settings() -> str:
    tables = [
        "## Coordinator\n\n", rows_of(CoordinatorSettings(), OWN_OPTIONS),
        "## HTTP API of a coordinator\n\n", rows_of(ApiSettings(), OWN_OPTIONS, "api."),
        "## Way to PostgreSQL\n\n", rows_of(PostgresSettings(), {}, "store."),
        "## Router\n\n", rows_of(RouterSettings(), ROUTERS_OWN_OPTIONS),
    ]  # fmt: skip
    return "".join([SETTINGS, *tables]).rstrip("\n") + "\n"


def rows_of(settings: Any, own: Mapping[str, str], prefix: str = "") -> str:
    """Those that `--set` takes. Raises KeyError: a setting has no line in the docstring."""
    said = meanings(type(settings))
    names = [name for name in inspect.signature(type(settings)).parameters if prefix + name not in own]
    rows = [(f"`{prefix}{name}`", number(getattr(settings, name)), said[name]) for name in names]
    return table("setting", "default", "meaning", rows=rows)


def meanings(cls: type) -> dict[str, str]:
    """What the docstring says of each attribute. A line may be about several: `first, second: ...`."""
    told = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \w)", "\n" + told):
        names, _, meaning = " ".join(entry.split()).partition(": ")
        meaning = meaning.rstrip(".")
        found |= {name.strip(): meaning for name in names.split(",")}
    return found


PAGES = {"cli.md": cli, "events.md": events, "settings.md": settings}


def main() -> None:
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
