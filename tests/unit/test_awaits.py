"""A rule of the whole source that no linter has."""

import ast
from pathlib import Path

import pointsman

SOURCES = sorted(Path(pointsman.__file__).parent.rglob("*.py"))


def lost_additions(source: str) -> list[int]:
    """Lines like `self.count += await ...`: the count is read before the wait, and what others add then is lost."""
    return [
        node.lineno for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AugAssign) and not isinstance(node.target, ast.Name)
        and any(isinstance(part, ast.Await) for part in ast.walk(node.value))
    ]  # fmt: skip


def test_nothing_is_added_to_what_was_read_before_a_wait():
    assert {str(path): lines for path in SOURCES if (lines := lost_additions(path.read_text()))} == {}


def test_the_rule_sees_them():
    assert lost_additions("async def f(a):\n    a.b += await c()\n    a[0] -= 1 + await c()\n    d += await c()") == [
        2,
        3,
    ]
