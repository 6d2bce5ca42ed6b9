"""JSON containment, as a database with `jsonb` has it."""

from typing import Any

import pytest

from pointsman.stores.checks import contains


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {}}}, True),
        ({"a": {"c": 1}}, {"c": 1}, False),
        ([1, 2, 3], [3, 1, 1], True),
        ([1, 2], [3], False),
        ([{"a": 1, "b": 2}], [{"a": 1}], True),
        ({"a": [1]}, {"a": 1}, False),
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (None, None, True),
        (None, False, False),
        ("a", "a", True),
    ],
)  # fmt: skip
def test_containment(value: Any, wanted: Any, expected: bool) -> None:
    assert contains(value, wanted) is expected
