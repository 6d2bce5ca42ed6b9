"""The attributes by which runs are found: what is allowed, and how a list is filtered by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from pointsman.api.errors import InvalidBody, InvalidQuery
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue

_SCALAR = (str, int, float, bool, type(None))
_ONE = {"type": ["string", "number", "boolean", "null"]}

Attributes = Annotated[
    dict[str, Any],
    Meta(
        description="To find the run by: scalars or lists of scalars. How many and how large they may be is set.",
        extra_json_schema={
            "propertyNames": {"minLength": 1},
            "additionalProperties": {"anyOf": [_ONE, {"type": "array", "items": _ONE}]},
        },
    ),
]


def read_filter(asked: Sequence[str]) -> dict[str, Any]:
    """Parse a filter of `key:value` texts. Values are JSON; what is not JSON is taken as a string.

    Raises: InvalidQuery, and what `check_attributes` raises.
    """
    attributes: dict[str, Any] = {}
    for item in asked:
        key, colon, text = item.partition(":")
        if not colon or key in attributes:
            raise InvalidQuery("attribute is key:value, each key once")
        try:
            value = values.decode(text)
        except InvalidValue:
            value = text
        attributes[key] = value
    check_attributes(attributes)
    return attributes


def check_attributes(attributes: dict[str, Any]) -> None:
    """Check attributes. Raises: InvalidBody (not flat), InvalidValue (can't be stored faithfully)."""
    for key, value in attributes.items():
        if not key:
            raise InvalidBody("an attribute's key is empty")
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, _SCALAR) for item in items):
            raise InvalidBody(f"attribute {key!r} is not a scalar or a list of scalars")
    values.encode(attributes)
