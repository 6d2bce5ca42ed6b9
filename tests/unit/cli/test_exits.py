"""Errors as one line, and their exit codes."""

from __future__ import annotations

import pytest

from pointsman.cli.exits import Exit, exit_code, one_line
from pointsman.kernel.errors import (
    CoordinatorExists,
    SchemaFromFuture,
    SchemaMissing,
    StoreUnavailable,
    UnknownRun,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreUnavailable(), Exit.UNREACHABLE),
        (SchemaMissing(), Exit.UNREACHABLE),
        (SchemaFromFuture(), Exit.UNREACHABLE),
        (CoordinatorExists(), Exit.FAILED),
        (UnknownRun(), Exit.FAILED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_exit_codes(error: BaseException, code: Exit) -> None:
    assert exit_code(error) is code


def test_one_line_says_the_code_and_what_to_do() -> None:
    assert "run `pointsman migrate`" in one_line(SchemaMissing())
    assert one_line(UnknownRun("two\nlines \x1b[31m")) == "unknown_run: two lines ?[31m"
