"""The type of a workflow's `run.state` as a schema: to canonical JSON and back, checked by pydantic; older versions are
read through functions that the workflow declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from pointsman.agents.signature import adapter_of
from pointsman.kernel.errors import InvalidState, InvalidValue, StateFromFuture
from pointsman.kernel.values import check_nulls, encode

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""From plain data of one version to that of the next."""
ERRORS_SHOWN = 5


class StateSchema:
    """Implements `kernel.program.StateSchema`.

    Args:
        name: of the workflow, for messages.
        kind: a pydantic model or a dataclass: something with named fields.
        upcasters: by the version that each reads; it gives the next one.
        bytes_max: limit of the state, in bytes of JSON.

    Raises:
        TypeError, ValueError: with what to change.
    """

    def __init__(
        self, name: str, kind: Any, version: int, upcasters: Mapping[int, Upcaster], *, bytes_max: int
    ) -> None:
        if not 1 <= version < 2**31:
            raise ValueError(f"workflow {name}: state_version={version}: a whole number from 1")
        if sorted(upcasters) != list(range(version - len(upcasters), version)) or 0 in upcasters:
            raise ValueError(
                f"workflow {name}: state_upcasters of {sorted(upcasters)} with state_version={version}: each reads one "
                f"version and gives the next, so they must end with {version - 1} and leave none out"
            )
        self.version = version
        self._name = f"the state of {name}"
        self._kind = kind
        self._fields = _fields_of(name, kind)
        self._adapter: TypeAdapter[Any] = adapter_of(name, kind)
        self._upcasters = dict(upcasters)
        self._bytes_max = bytes_max

    def encode(self, value: Any) -> bytes:
        """See `kernel.program.StateSchema`."""
        return self.dump(self._validated(self.dump(value)))

    def changed(self, before: Any, changes: Mapping[str, Any]) -> bytes:
        """See `kernel.program.StateSchema`."""
        unknown = [field for field in changes if field not in self._fields]
        if unknown:
            raise InvalidState(f"{self._name} has no field {', '.join(unknown)}; it has {', '.join(self._fields)}")
        return self.encode(self._with(before, changes))

    def _with(self, before: Any, changes: Mapping[str, Any]) -> Any:
        """Raises InvalidState: there is nothing before, and these are too few."""
        try:
            if before is None:
                return self._kind(**changes)
        except ValidationError as error:
            raise InvalidState(f"{self._name}: {described(error)}") from error
        except TypeError as error:
            raise InvalidState(f"{self._name}: {error}") from error
        return before.model_copy(update=changes) if isinstance(before, BaseModel) else _replaced(before, changes)

    def dump(self, value: Any) -> bytes:
        """See `kernel.program.StateSchema`. Pydantic writes NaN as null without a word: where there is a null, what was
        given is looked at too."""
        try:
            data = encode(self._adapter.dump_python(value, mode="json", warnings=False), bytes_max=self._bytes_max)
            if b"null" in data:
                check_nulls(self._adapter.dump_python(value, warnings=False))
        except (PydanticSerializationError, AttributeError) as error:
            raise InvalidState(f"{self._name}: {error}") from error
        return data

    def decode(self, data: bytes, version: int) -> Any:
        """See `kernel.program.StateSchema`."""
        if version > self.version:
            raise StateFromFuture(f"{self._name} is of version {version}; this code knows {self.version}")
        return self._validated(data if version == self.version else self._upcast(data, version))

    def _upcast(self, data: bytes, version: int) -> bytes:
        plain = msgspec.json.decode(data)
        for older in range(version, self.version):
            upcaster = self._upcasters.get(older)
            if upcaster is None:
                raise InvalidState(
                    f"{self._name}: no upcaster reads version {older} (state_upcasters={{{older}: ...}})"
                )
            try:
                plain = upcaster(plain)
            except Exception as error:
                raise InvalidState(
                    f"{self._name}: the upcaster of version {older} failed: {type(error).__name__}: {error}"
                ) from error
        try:
            return encode(plain, bytes_max=self._bytes_max)
        except InvalidValue as error:
            raise InvalidState(f"{self._name}: the upcasters gave {error}") from error

    def _validated(self, data: bytes) -> Any:
        try:
            return self._adapter.validator.validate_json(data)
        except ValidationError as error:
            raise InvalidState(f"{self._name}: {described(error)}") from error


def described(error: ValidationError) -> str:
    """What does not fit, field by field."""
    found = error.errors(include_url=False)
    parts = []
    for one in found[:ERRORS_SHOWN]:
        where = ".".join(str(part) for part in one["loc"])
        parts.append(f"{where}: {one['msg']}" if where else one["msg"])
    more = f" (and {len(found) - ERRORS_SHOWN} more)" if len(found) > ERRORS_SHOWN else ""
    return "; ".join(parts) + more


def _replaced(before: Any, changes: Mapping[str, Any]) -> Any:
    try:
        return dataclasses.replace(before, **changes)
    except (TypeError, ValueError) as error:  # what its own __post_init__ says, or a field that is set there
        raise InvalidState(f"{type(before).__name__}: {error}") from error


def _fields_of(name: str, kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return list(kind.model_fields)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if field.init]
    raise TypeError(f"workflow {name}: state={kind!r}: a pydantic model or a dataclass")
