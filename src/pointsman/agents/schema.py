"""The signature of an agent that registered itself: JSON Schema (draft 2020-12) at both ends of an attempt.

Whoever registers an agent writes its schemas, so they are data from outside: nothing is fetched for them, and what
would take long to check is refused when the agent registers, not when a call waits for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from pointsman.kernel.errors import InvalidInput, InvalidValue, ValueTooLarge
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, encode, faithful
from pointsman.ports.agents import InvalidCard

SCHEMA_BYTES_MAX = 65_536
SCHEMA_DEPTH_MAX = 40
CHECKS_MAX = 500
"""Subschemas that one value may be held against, references followed. Two references to a definition of two references
double at each step: 20 such definitions, a schema of 2 KB, kept the loop for 79 s."""
CHECKS_TOTAL_MAX = 50_000
"""The same, added up over all parts of a schema."""
BACKTRACKS_MAX = 10_000
REGEX_BYTES_MAX = 1_000_000
DRAFT = "https://json-schema.org/draft/2020-12/schema"
MESSAGE_CHARS_MAX = 300

_LISTED = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "if", "then", "else")
"""Keywords whose subschemas are held against the same value as the schema that they stand in."""


class InvalidSchema(InvalidCard):
    """A schema of the agent card can't be used."""

    code = "invalid_schema"


class SchemaSignature:
    """Implements `agents.agent.AgentSignature` over plain data. An empty schema fits anything.

    One positional argument is the input itself, keyword arguments are an object, none is null.

    Args:
        name: of the agent, for messages.
        bytes_max: limit of one value, in bytes of JSON.

    Raises:
        InvalidSchema: what is wrong with a schema.
    """

    def __init__(
        self, name: str, takes: dict[str, Any], gives: dict[str, Any], *, bytes_max: int = VALUE_BYTES_MAX
    ) -> None:
        self._name = name
        self._bytes_max = bytes_max
        self._schemas = (takes, gives)
        self._input = compile_schema(takes, f"{name}: input_schema")
        self._output = compile_schema(gives, f"{name}: output_schema")

    def encode_input(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Canonical JSON of a call's arguments, not held against the schema: that is done before an attempt. A replay
        encodes what an earlier registration took, and must not be stopped by a later one.

        Raises:
            InvalidInput, InvalidValue.
        """
        if len(args) > 1 or (args and kwargs):
            raise InvalidInput(f"{self._name} takes one value, or keyword arguments that make an object")
        return encode(args[0] if args else dict(kwargs) or None, bytes_max=self._bytes_max)

    def same_input(self, recorded: bytes, produced: bytes) -> bool:
        """Equal as JSON: 1 and 1.0 are, True and 1 are not."""
        return recorded == produced or plain(decode(recorded)) == plain(decode(produced))

    def check_input(self, data: bytes) -> None:
        """Raises InvalidInput: where it does not fit, and why."""
        self._read(self._input, data, self._name)

    def decode_output(self, data: bytes) -> Any:
        """Plain data, unchecked: what was recorded must be read although the agent has described itself anew since."""
        return msgspec.json.decode(data)

    def check_output(self, data: bytes) -> None:
        """Raises InvalidInput: the result does not fit the schema."""
        self._read(self._output, data, f"the result of {self._name}")

    def encode_output(self, value: Any) -> bytes:
        """Canonical JSON of a value that stands in for a result. Raises InvalidInput, InvalidValue."""
        data = encode(value, bytes_max=self._bytes_max)
        self.check_output(data)
        return data

    def schemas(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._schemas

    def _read(self, validator: jsonschema_rs.Draft202012Validator, data: bytes, name: str) -> Any:
        try:
            value = decode(data, bytes_max=self._bytes_max)
        except InvalidValue as error:
            raise InvalidInput(f"{name}: {error}") from error
        if not validator.is_valid(value):  # the message costs more than the answer, and is seldom wanted
            raise InvalidInput(f"{name}: {_first_error(validator, value)}")
        return value


def compile_schema(schema: dict[str, Any], name: str) -> jsonschema_rs.Draft202012Validator:
    """A validator that fetches nothing.

    Raises:
        InvalidSchema: it is no schema of draft 2020-12, refers to another document, or is over a limit.
    """
    _check_form(schema, name)
    _check_cost(schema, name)
    patterns = jsonschema_rs.FancyRegexOptions(
        backtrack_limit=BACKTRACKS_MAX, size_limit=REGEX_BYTES_MAX, dfa_size_limit=REGEX_BYTES_MAX
    )
    try:
        return jsonschema_rs.Draft202012Validator(schema, offline=True, pattern_options=patterns)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        text = faithful(getattr(error, "message", error), MESSAGE_CHARS_MAX)
        raise InvalidSchema(f"{name}: {text}") from error


def _check_form(schema: dict[str, Any], name: str) -> None:
    """What can be said without compiling it. Raises InvalidSchema."""
    try:
        encode(schema, bytes_max=SCHEMA_BYTES_MAX)
    except ValueTooLarge as error:
        raise InvalidSchema(f"{name}: {error}") from error
    except InvalidValue as error:
        raise InvalidSchema(f"{name} can't be stored: {error}") from error
    for depth, keyword, value in _walk(schema, 1):
        if depth > SCHEMA_DEPTH_MAX:
            raise InvalidSchema(f"{name}: nested deeper than {SCHEMA_DEPTH_MAX} levels; use $defs")
        if keyword in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            raise InvalidSchema(f"{name}: {keyword} {value[:200]!r}: only '#...' can be meant, nothing is fetched")
        if keyword == "$id" and depth > 1 and isinstance(value, str):
            raise InvalidSchema(f"{name}: $id {value[:200]!r}: a document within the document can't be referred to")
    draft = schema.get("$schema", DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") != DRAFT:
        raise InvalidSchema(f"{name}: $schema {str(draft)[:200]!r}: only {DRAFT} is understood")


def _check_cost(schema: dict[str, Any], name: str) -> None:
    """Raises InvalidSchema: it would take long to check a value."""
    total = 0
    for part in (schema, *(part for _, _, part in _walk(schema, 1) if isinstance(part, dict))):
        count = _checks(schema, part, (), CHECKS_MAX)
        total += count
        if count > CHECKS_MAX or total > CHECKS_TOTAL_MAX:
            raise InvalidSchema(
                f"{name}: one value would be held against more than {CHECKS_MAX} subschemas (all its parts more "
                f"than {CHECKS_TOTAL_MAX}): references multiply"
            )


def _walk(value: Any, depth: int) -> Iterator[tuple[int, str, Any]]:
    """Every member of every object and list, with its depth. Values that are data (`enum`, `default`) are walked too: a
    `$ref` there is refused although it would be harmless."""
    members = value.items() if isinstance(value, dict) else [("", item) for item in value]
    for key, item in members:
        yield depth, key, item
        if isinstance(item, dict | list):
            yield from _walk(item, depth + 1)


def _checks(root: dict[str, Any], schema: Any, followed: tuple[str, ...], most: int) -> int:
    """How many subschemas are held against one value, at most; counting ends soon after `most`."""
    if not isinstance(schema, dict) or most < 1:
        return 1
    count = 1
    for ref in (schema.get("$ref"), schema.get("$dynamicRef")):
        if isinstance(ref, str) and ref not in followed:  # one that leads back to itself is checked once
            count += _checks(root, _resolve(root, ref), (*followed, ref), most - count)
    below = [schema[keyword] for keyword in _SINGLE if keyword in schema]
    for keyword in _LISTED:
        below += schema[keyword] if isinstance(schema.get(keyword), list) else []
    dependent = schema.get("dependentSchemas")
    below += dependent.values() if isinstance(dependent, dict) else []
    for part in below:
        if count > most:
            break
        count += _checks(root, part, followed, most - count)
    return count


def _resolve(root: dict[str, Any], ref: str) -> Any:
    """What a reference within the document means; None where it means nothing (the compiler says so)."""
    if not ref.startswith("#/"):
        anchors = (part for _, _, part in _walk({"": root}, 0) if isinstance(part, dict))
        named = (part for part in anchors if ref[1:] in (part.get("$anchor"), part.get("$dynamicAnchor")))
        return root if ref == "#" else next(named, None)
    found: Any = root
    for part in unquote(ref[2:]).split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            return None
    return found


def _first_error(validator: jsonschema_rs.Draft202012Validator, value: Any) -> str:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        where = ".".join(str(part) for part in error.instance_path)
        return f"{where + ': ' if where else ''}{faithful(error.message, MESSAGE_CHARS_MAX)}"
    return "it does not fit the schema"


def plain(value: Any) -> Any:
    """To compare values by: JSON has one kind of number, and Python takes True for 1."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
