"""The parameters of a route: parts of its path, query parameters, headers. Each is declared once, for reading it and
for its description in the OpenAPI document.

A bound may be the name of a setting; its value is then that of this coordinator. Must not know routes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

from pointsman.api.errors import InvalidHeader, InvalidId, InvalidQuery
from pointsman.api.settings import ApiSettings

T = TypeVar("T")
Place = Literal["path", "query", "header"]
Bound = int | str
"""A number, or the name of the setting that holds it."""

ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:~@-]{0,127}"
KEY_CHARS_MAX = 255
SEQUENCE_MAX = 2**53

_ID = re.compile(ID_PATTERN)
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_CHARS_MAX}}}")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


class Parameter(ABC, Generic[T]):
    """One parameter.

    Attributes:
        about: what it means, for people; Markdown.
        place: where it is in the request.
        repeated: whether it may be given more than once.
    """

    required = False
    repeated = False

    def __init__(self, name: str, about: str, *, place: Place = "query") -> None:
        self.name = name
        self.about = about
        self.place = place
        self.header = name.lower().encode()
        self.required = self.required or place == "path"

    @abstractmethod
    def parse(self, texts: Sequence[str], settings: ApiSettings) -> T:
        """Parse what was given: nothing, one text, or several if it may be repeated.

        Raises: InvalidQuery, InvalidHeader, InvalidId.
        """

    @abstractmethod
    def schema(self, settings: ApiSettings) -> dict[str, Any]:
        """The JSON Schema of the values that `parse` accepts."""


class Text(Parameter["str | None"]):
    """Any text; None if absent."""

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str | None:  # noqa: ARG002  the interface's
        return texts[0] if texts else None

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string"}


class NeededText(Parameter[str]):
    """A required text of 1 to `chars_max` characters. `pattern`: what it looks like; the handler checks it."""

    required = True

    def __init__(self, name: str, about: str, *, chars_max: int, pattern: str | None = None) -> None:
        super().__init__(name, about)
        self.chars_max = chars_max
        self.pattern = pattern

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str:  # noqa: ARG002
        if not texts or not 1 <= len(texts[0]) <= self.chars_max:
            raise InvalidQuery(f"{self.name} must be there, with 1 to {self.chars_max} characters")
        return texts[0]

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        form = {} if self.pattern is None else {"pattern": self.pattern}
        return {"type": "string", "minLength": 1, "maxLength": self.chars_max, **form}


class Texts(Parameter["Sequence[str]"]):
    """Any number of texts. `pattern`: what each looks like; the handler checks it."""

    repeated = True

    def __init__(self, name: str, about: str, *, pattern: str) -> None:
        super().__init__(name, about)
        self.pattern = pattern

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> Sequence[str]:  # noqa: ARG002
        return texts

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "array", "items": {"type": "string", "pattern": self.pattern}}


class Id(Parameter["str | None"]):
    """An id or a name; None if absent."""

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str | None:  # noqa: ARG002
        return checked_id(texts[0], self.name) if texts else None

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "pattern": f"^{ID_PATTERN}$"}


class PathId(Parameter[str]):
    """An id or a name in the path. A `pattern` other than that of ids may be given, with its meaning."""

    def __init__(self, name: str, about: str, *, pattern: str = ID_PATTERN, meaning: str = "") -> None:
        super().__init__(name, about, place="path")
        self._pattern = re.compile(pattern)
        self._meaning = meaning or InvalidId.meaning()

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str:  # noqa: ARG002
        if self._pattern.fullmatch(texts[0]) is None:
            raise InvalidId(f"{self.name}: {self._meaning}")
        return texts[0]

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "pattern": f"^{self._pattern.pattern}$"}


class PathChoice(Parameter[str]):
    """One of a few words in the path. `unknown`: the error for any other."""

    def __init__(self, name: str, about: str, *, values: Sequence[str], unknown: Exception) -> None:
        super().__init__(name, about, place="path")
        self.values = tuple(values)
        self._unknown = unknown

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str:  # noqa: ARG002
        if texts[0] not in self.values:
            raise self._unknown
        return texts[0]

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "enum": list(self.values)}


class Choices(Parameter["tuple[str, ...]"]):
    """Some of a few words; all of them if absent."""

    repeated = True

    def __init__(self, name: str, about: str, *, values: Sequence[str]) -> None:
        super().__init__(name, about)
        self.values = tuple(values)

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> tuple[str, ...]:  # noqa: ARG002
        for text in texts:
            if text not in self.values:
                raise InvalidQuery(f"{self.name} {text!r} is none of {', '.join(self.values)}")
        return tuple(texts)

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "array", "items": {"type": "string", "enum": list(self.values)}}


class Whole(Parameter[int]):
    """A whole number from `low` to `high`."""

    def __init__(self, name: str, about: str, *, low: int, high: Bound, default: Bound) -> None:
        super().__init__(name, about)
        self._low, self._high, self._default = low, high, default

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> int:
        if not texts:
            return int(_bound(self._default, settings))
        high = int(_bound(self._high, settings))
        if (number := whole(texts[0])) is None or not self._low <= number <= high:
            raise InvalidQuery(f"{self.name} must be a whole number from {self._low} to {high}")
        return number

    def schema(self, settings: ApiSettings) -> dict[str, Any]:
        high, default = _bound(self._high, settings), _bound(self._default, settings)
        return {"type": "integer", "minimum": self._low, "maximum": int(high), "default": int(default)}


class Seconds(Parameter[float]):
    """Seconds from 0 to `high`."""

    def __init__(self, name: str, about: str, *, high: Bound, default: Bound) -> None:
        super().__init__(name, about)
        self._high, self._default = high, default

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> float:
        if not texts:
            return _bound(self._default, settings)
        high = _bound(self._high, settings)
        if _SECONDS.fullmatch(texts[0]) is None or float(texts[0]) > high:
            raise InvalidQuery(f"{self.name} must be seconds, from 0 to {high:g}")
        return float(texts[0])

    def schema(self, settings: ApiSettings) -> dict[str, Any]:
        high, default = _bound(self._high, settings), _bound(self._default, settings)
        return {"type": "number", "minimum": 0, "maximum": high, "default": default}


class Flag(Parameter[bool]):
    """`true` or `false`; false if absent."""

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> bool:  # noqa: ARG002
        if texts and texts[0] not in ("true", "false"):
            raise InvalidQuery(f"{self.name} must be true or false")
        return bool(texts) and texts[0] == "true"

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "boolean", "default": False}


class Key(Parameter["str | None"]):
    """A header of 1 to 255 visible ASCII characters; None if absent."""

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> str | None:  # noqa: ARG002
        if not texts:
            return None
        if _KEY.fullmatch(texts[0]) is None:
            raise InvalidHeader(f"{self.name} must be 1 to {KEY_CHARS_MAX} visible ASCII characters, no spaces")
        return texts[0]

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "string", "pattern": f"^{_KEY.pattern}$"}


class LastSequence(Parameter["int | None"]):
    """A header with the sequence of an event; None if absent."""

    def parse(self, texts: Sequence[str], settings: ApiSettings) -> int | None:  # noqa: ARG002
        if not texts:
            return None
        if (number := whole(texts[0])) is None or number > SEQUENCE_MAX:
            raise InvalidHeader(f"{self.name} must be the sequence of an event")
        return number

    def schema(self, settings: ApiSettings) -> dict[str, Any]:  # noqa: ARG002
        return {"type": "integer", "minimum": 0, "maximum": SEQUENCE_MAX}


def checked_id(text: str, what: str) -> str:
    """The text, if it is a valid id. Raises: InvalidId."""
    if _ID.fullmatch(text) is None:
        raise InvalidId(f"{what}: {InvalidId.meaning()}")
    return text


def whole(text: str) -> int | None:
    """A number given as decimal digits; None: it is not one, or absurdly long."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 16 else None


def _bound(bound: Bound, settings: ApiSettings) -> float:
    return getattr(settings, bound) if isinstance(bound, str) else bound


TENANT = Id(
    "Pointsman-Tenant",
    "The tenant that the caller speaks for: new runs belong to it, lists show it alone, another tenant's run does not "
    "exist. Set it in a gateway to separate tenants.",
    place="header",
)
KEY = Key("Idempotency-Key", "The same request under the same key is done once.", place="header")
RUN = PathId("run", "The run's id.")
TENANT_FILTER = Id("tenant", "Only of this tenant.")
LIMIT = Whole("limit", "How many on one page.", low=1, high="page_limit_max", default="page_limit_default")
CURSOR = Text("cursor", "The `cursor` of the page before; it is `null` on the last page.")
AFTER = Whole("after", "Only events after this sequence.", low=0, high=SEQUENCE_MAX, default=0)
