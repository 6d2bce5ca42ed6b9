"""What a person's answer must be: a Python type or a JSON Schema, as one thing (`kernel.program.Shape`).

An answer is checked twice: against the schema where it is given, by any coordinator, whatever code it has; and by the
type itself where the workflow reads it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
from pydantic import PydanticUndefinedAnnotation, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import PydanticSerializationError

from pointsman.agents.schema import SchemaSignature, plain
from pointsman.agents.signature import read_as
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.program import Shape
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, encode

SHAPES_KEPT = 256
WHAT = "an answer"


class SchemaShape:
    """Of a JSON Schema. An empty one fits anything."""

    def __init__(self, schema: bytes, bytes_max: int = VALUE_BYTES_MAX) -> None:
        self.schema = schema
        self._signature = SchemaSignature(WHAT, {}, msgspec.json.decode(schema or b"{}"), bytes_max=bytes_max)

    def encode_output(self, value: Any) -> bytes:
        """Raises InvalidInput, InvalidValue."""
        return self._signature.encode_output(value)

    def decode_output(self, data: bytes) -> Any:
        """Raises InvalidInput."""
        self._signature.check_output(data)
        return self._signature.decode_output(data)


class TypeShape:
    """Of a type that pydantic can describe."""

    def __init__(self, expected: Any) -> None:
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(expected)
            self.schema = encode(self._adapter.json_schema())
        except (PydanticUserError, PydanticUndefinedAnnotation, PydanticInvalidForJsonSchema) as error:
            raise InvalidValue(f"schema={expected!r} can't be described by a schema: {error}") from error
        self._written = schema_shape(self.schema)

    def encode_output(self, value: Any) -> bytes:
        """Raises InvalidInput, InvalidValue."""
        try:
            return self._written.encode_output(self._adapter.dump_python(value, mode="json", warnings=False))
        except PydanticSerializationError as error:
            raise InvalidValue(f"the proposed answer: {error}") from error

    def decode_output(self, data: bytes) -> Any:
        """Raises InvalidInput."""
        return read_as(self._adapter, data, WHAT)


@lru_cache(SHAPES_KEPT)
def schema_shape(schema: bytes) -> SchemaShape:
    """Raises InvalidSchema."""
    return SchemaShape(schema)


@lru_cache(SHAPES_KEPT)
def _type_shape(expected: Any) -> TypeShape:
    return TypeShape(expected)


def shape_of(expected: Any) -> Shape:
    """See `kernel.program.Directory.shape`. Raises InvalidValue, InvalidSchema."""
    if expected is None or expected is Any:
        return schema_shape(b"")
    if isinstance(expected, dict):
        return schema_shape(encode(expected))
    try:
        return _type_shape(expected)
    except TypeError:  # what can't be hashed, or is no type at all
        return TypeShape(expected)


def is_same(proposed: bytes, given: bytes) -> bool:
    """Is an answer the one that was proposed? By value: 30 and 30.0 are one number, 1 and true are not one value."""
    return bool(plain(decode(proposed)) == plain(decode(given)))


def check_answer(schema: bytes, answer: bytes) -> None:
    """Raises InvalidInput: it does not fit; the message says where."""
    schema_shape(schema).decode_output(answer)
