"""The attributes of a run, to find it by: what they may be, and how a list is asked for by them."""

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
    """The attributes that `key:value` texts ask for: the value as JSON, or as a string where it is not JSON.

    Raises: InvalidQuery; and what `check_attributes` does.
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
    """Raises: InvalidBody (not flat), InvalidValue (not to be stored faithfully)."""
    for key, value in attributes.items():
        if not key:
            raise InvalidBody("an attribute's key is empty")
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, _SCALAR) for item in items):
            raise InvalidBody(f"attribute {key!r} is not a scalar or a list of scalars")
    values.encode(attributes)
