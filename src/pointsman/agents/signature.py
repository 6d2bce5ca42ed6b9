"""A function's signature as its schema: arguments and result to canonical JSON and back, checked by pydantic.

A function of one parameter takes its JSON value as it is; of several, an object by name; of none, null. A parameter
of type `Context` or `Run` is given by the runtime and is no part of the schema.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec
from pydantic import PydanticUndefinedAnnotation, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pointsman.kernel.errors import InvalidInput, InvalidValue, PointsmanError
from pointsman.kernel.values import check_nulls, encode, faithful

_EMPTY = inspect.Parameter.empty


class Signature:
    """Converts the arguments and the result of a function to JSON and back.

    Raises:
        TypeError: the function can't be an agent or workflow; the message says why.
    """

    def __init__(self, function: Callable[..., Any], *, given: type[Any], bytes_max: int) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self.bytes_max = bytes_max
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as error:
            raise TypeError(f"{self._name}: {error}; its types must be known where it is defined") from error
        parameters = inspect.signature(function).parameters
        self.given = next((name for name, hint in hints.items() if hint is given and name in parameters), None)
        taken = [parameter for name, parameter in parameters.items() if name != self.given]
        for parameter in taken:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{self._name}: parameter {parameter} has no name in a schema; use ordinary parameters")
        self._parameters = {parameter.name: parameter.default for parameter in taken}
        self._inputs = {name: adapter_of(self._name, hints.get(name, Any)) for name in self._parameters}
        self._output = adapter_of(self._name, hints.get("return", Any))
        self._single = next(iter(self._parameters)) if len(self._parameters) == 1 else ""
        self._input = self._inputs.get(self._single)

    # -- towards the log -----------------------------------------------------------------------------------------

    def encode_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Canonical JSON of a call's arguments; one `msgspec.Raw` is an event's data. Raises InvalidInput,
        InvalidValue."""
        if len(args) == 1:
            if type(args[0]) is msgspec.Raw:
                return self._of_event(bytes(args[0]))
            if self._input is not None and not kwargs:
                return self._encode(self._input, args[0])
        values = self._bind(args, kwargs)
        if self._input is not None:
            return self._encode(self._input, values.get(self._single, self._parameters[self._single]))
        fields = {name: msgspec.Raw(self._encode(self._inputs[name], value)) for name, value in values.items()}
        return encode(fields or None, bytes_max=self.bytes_max)

    def _of_event(self, data: bytes) -> bytes:
        """Of an event's data, what the parameters ask for by name; a single one of another name takes it whole. Who
        emits it knows nothing of who subscribes to it, so what is more than that is no mistake, and what is less is
        one that the attempt finds."""
        if not self._parameters:
            return b"null"
        try:
            fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except msgspec.MsgspecError:
            return data
        if self._input is not None:
            return bytes(fields.get(self._single, data))
        wanted = {name: raw for name, raw in fields.items() if name in self._parameters}
        return encode(wanted, bytes_max=self.bytes_max)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name. Raises InvalidInput."""
        names = list(self._parameters)
        if len(args) > len(names):
            raise InvalidInput(f"{self._name} takes {len(names)} arguments, {len(args)} were given")
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in self._parameters or name in values:
                raise InvalidInput(f"{self._name} got an unexpected or repeated argument {name!r}")
            values[name] = value
        for name, default in self._parameters.items():
            if name not in values and default is _EMPTY:
                raise InvalidInput(f"{self._name} needs an argument {name!r}")
        return values

    def encode_output(self, value: Any) -> bytes:
        """Canonical JSON of a result. Raises InvalidValue."""
        return self._encode(self._output, value)

    def _encode(self, adapter: TypeAdapter[Any], value: Any) -> bytes:
        """Pydantic writes NaN as null without a word: where there is a null, what was given is looked at too."""
        if type(value) in _PLAIN:
            return encode(value, bytes_max=self.bytes_max)
        try:
            encoded = encode(adapter.dump_python(value, mode="json", warnings=False), bytes_max=self.bytes_max)
            if b"null" in encoded:
                check_nulls(adapter.dump_python(value, warnings=False))
        except PointsmanError:
            raise
        except Exception as error:  # a ring, a depth that pydantic does not go down to, whatever a model's field raises
            raise InvalidValue(f"{self._name}: {faithful(error)}") from error
        return encoded

    # -- from the log --------------------------------------------------------------------------------------------

    def decode_input(self, data: bytes) -> dict[str, Any]:
        """Arguments by name, each as its declared type. Raises InvalidInput."""
        if self._input is not None:
            return {self._single: read_as(self._input, data, self._name)}
        try:
            fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw] | None) or {}
        except msgspec.MsgspecError as error:
            raise InvalidInput(f"{self._name} takes an object with {list(self._parameters)}: {error}") from error
        unknown = [name for name in fields if name not in self._inputs]
        missing = [n for n, default in self._parameters.items() if default is _EMPTY and n not in fields]
        if unknown or missing:
            raise InvalidInput(f"{self._name}: unknown fields {unknown}, missing fields {missing}")
        return {name: read_as(self._inputs[name], bytes(raw), f"{self._name}.{name}") for name, raw in fields.items()}

    def check_input(self, data: bytes) -> None:
        """Raises InvalidInput."""
        self.decode_input(data)

    def decode_output(self, data: bytes) -> Any:
        """Raises InvalidInput: the value does not fit the declared result."""
        try:  # the adapter's own method passes on options, for 0.16 µs
            return self._output.validator.validate_json(data)
        except ValidationError as error:
            raise _misfit(f"the result of {self._name}", error) from error

    def check_output(self, data: bytes) -> None:
        """Raises InvalidInput: the result is none that the agent may give."""
        self.decode_output(data)

    def same_input(self, recorded: bytes, produced: bytes) -> bool:
        try:
            return self.decode_input(recorded) == self.decode_input(produced)
        except (InvalidInput, msgspec.MsgspecError):
            return False

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON Schema of the input and of the output."""
        if self._input is not None:
            return self._input.json_schema(), self._output.json_schema()
        properties = {name: adapter.json_schema() for name, adapter in self._inputs.items()}
        required = [name for name, default in self._parameters.items() if default is _EMPTY]
        schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        return (schema if properties else {"type": "null"}), self._output.json_schema()


_PLAIN = frozenset({str, int, bool, type(None)})
"""Types that are their own JSON: no dump needed."""


def adapter_of(name: str, hint: Any) -> TypeAdapter[Any]:
    """Raises TypeError: no schema describes it."""
    try:
        return TypeAdapter(hint)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise TypeError(f"{name}: {hint!r} can't be described by a schema: {error}") from error


def read_as(adapter: TypeAdapter[Any], data: bytes, name: str) -> Any:
    """JSON read as a type; `name` is for the message. Raises InvalidInput."""
    try:
        return adapter.validator.validate_json(data)
    except ValidationError as error:
        raise _misfit(name, error) from error


def _misfit(name: str, error: ValidationError) -> InvalidInput:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return InvalidInput(f"{name}: {where + ': ' if where else ''}{first['msg']}{more}")


def decode_as(expected: Any, data: bytes) -> Any:
    """JSON read as `expected`; None or Any: as plain data. Raises InvalidInput."""
    if expected is None or expected is Any:
        return msgspec.json.decode(data)
    return read_as(TypeAdapter(expected), data, "the payload")
