"""Exit codes, and how an error becomes one line on stderr. Every verb ends through `guarded`.

Must not know any verb.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec, TypeVar

import typer

from pointsman.client.errors import DeadlinePassed
from pointsman.kernel.errors import PointsmanError

P = ParamSpec("P")
T = TypeVar("T")


class Exit(IntEnum):
    """The exit codes of a process. Stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    TIMEOUT = 4
    INTERRUPTED = 130


HELP = """Exit codes: 0 done · 1 failed, refused or not found (also: the run failed) · 2 wrong usage ·
3 the store or the API can't be reached or used · 4 the deadline passed first · 130 interrupted."""


class CommandError(PointsmanError):
    """The command can't do what was asked."""

    code = "command_failed"
    exit = Exit.FAILED


class Usage(CommandError):
    """The command line asks for something that does not exist or makes no sense."""

    code = "usage"
    exit = Exit.USAGE


def exit_code(error: BaseException) -> Exit:
    """The exit code for an error."""
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(error, DeadlinePassed):
        return Exit.TIMEOUT
    if isinstance(error, PointsmanError) and error.status in (502, 503, 504):
        return Exit.UNREACHABLE
    if getattr(error, "code", "") in ("insecure_bind", "invalid_argument", "invalid_setting", "invalid_store_url"):
        return Exit.USAGE
    return Exit(getattr(error, "exit", Exit.FAILED))


def one_line(error: BaseException) -> str:
    """`code: what happened and what to do`, without line ends or control characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return f"{getattr(error, 'code', 'internal')}: {shown}"


def report(error: BaseException, *, as_json: bool = False) -> None:
    """Print the error on stderr; with `--json` as one object."""
    if as_json:
        problem = {
            "code": getattr(error, "code", "internal"),
            "message": " ".join(str(error).split()),
            "retryable": bool(getattr(error, "retryable", False)),
        }
        print(json.dumps(problem, ensure_ascii=False), file=sys.stderr)
    else:
        print(f"pointsman: {one_line(error)}", file=sys.stderr)


def guarded(verb: Callable[P, T]) -> Callable[P, T]:
    """Around a verb: named errors become one line and an exit code; anything else keeps its traceback."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except PointsmanError as error:
            report(error, as_json=bool(kwargs.get("as_json")))
            raise typer.Exit(int(exit_code(error))) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(int(Exit.INTERRUPTED)) from error
        except BrokenPipeError as error:
            # Whoever read us has enough (`| head`). Nothing may be flushed into the pipe at exit.
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115, PTH123
            raise typer.Exit(int(Exit.OK)) from error

    return run
