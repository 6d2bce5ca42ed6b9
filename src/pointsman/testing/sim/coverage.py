"""Which lines of the production `coordinator/` and `kernel/` run under simulation.

Counted are the lines within functions alone: what an import runs proves nothing. A tracer of our own, because
Python 3.11 has no cheap one, and these are few files.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pointsman

ROOMS = ("coordinator", "kernel")
HOME = Path(pointsman.__file__).parent
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
LEAST = 85.0
"""Per cent of the lines."""

Lines = dict[str, set[int]]


@dataclass
class Coverage:
    """Lines that ran, by file. `add` joins what another process has seen."""

    ran: Lines = field(default_factory=dict)

    def add(self, other: Lines) -> None:
        for name, lines in other.items():
            self.ran.setdefault(name, set()).update(lines)

    def report(self) -> dict[str, Any]:
        """Per cent in all and by file, and the lines that never ran."""
        files: dict[str, Any] = {}
        ran_all = lines_all = 0
        for path in sources():
            wanted = lines_within_functions(path)
            ran = self.ran.get(str(path), set()) & wanted
            ran_all, lines_all = ran_all + len(ran), lines_all + len(wanted)
            missing = sorted(wanted - ran)
            share = round(100 * len(ran) / len(wanted), 1) if wanted else 100.0
            files[path.relative_to(HOME).as_posix()] = {"percent": share, "missing": missing}
        return {"percent": round(100 * ran_all / max(lines_all, 1), 2), "lines": lines_all, "files": files}


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((HOME / room).rglob("*.py"))]


def lines_within_functions(path: Path) -> set[int]:
    """The lines that a tracer can see run, without those of modules and classes themselves, and without the bodies of
    protocols, which never run."""
    text = path.read_text()
    lines = set(_lines(compile(text, str(path), "exec"), is_function=False))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(_is_said(part) for part in node.body):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def _is_said(part: ast.stmt) -> bool:
    """A docstring, or `...`."""
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def _lines(code: CodeType, *, is_function: bool) -> Iterator[int]:
    if is_function:
        yield from (line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            is_own = bool(constant.co_flags & inspect.CO_NEWLOCALS)  # not the body of a class
            at_import = not is_function and constant.co_name in COMPREHENSIONS
            yield from _lines(constant, is_function=is_own and not at_import)


@contextmanager
def traced() -> Iterator[Lines]:
    """Note the lines that run within."""
    wanted = {str(path): set[int]() for path in sources()}

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        ran = wanted.get(frame.f_code.co_filename)
        if ran is None:
            return None
        add = ran.add

        def line(frame: FrameType, _event: str, _argument: Any) -> Any:
            add(frame.f_lineno)
            return line

        add(frame.f_lineno)
        return line

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield wanted
    finally:
        sys.settrace(before)
