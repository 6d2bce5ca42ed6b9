"""The tiny parser of `sql/*.sql`: each query has a name, a description, and its text.

-- name: heads
-- Those that exist.
SELECT ...
    -- include: another_query_of_the_same_file
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_INCLUDE = re.compile(r"^([ ]*)-- include: (\w+)$", re.MULTILINE)


def load(package: str | None, file: str) -> Mapping[str, str]:
    """The queries of a store's `sql/<file>.sql`, by name. `package`: the store's `__package__`.

    Raises:
        ValueError: a query without a description, two of one name, or an include of one that is not there.
    """
    assert package is not None
    text = resources.files(package).joinpath("sql", f"{file}.sql").read_text("utf-8")
    return parse(text)


def parse(text: str) -> Mapping[str, str]:
    """See `load`."""
    parts = _NAME.split(text)[1:]
    bodies: dict[str, str] = {}
    for name, part in zip(parts[::2], parts[1::2], strict=True):
        if name in bodies:
            raise ValueError(f"two queries are named {name}")
        if not part.startswith("-- "):
            raise ValueError(f"query {name} has no description")
        lines = part.split("\n")
        while lines and lines[0].startswith("--") and not _INCLUDE.match(lines[0]):
            del lines[0]
        bodies[name] = "\n".join(lines).strip("\n")
    return {name: _expand(name, bodies) for name in bodies}


def _expand(name: str, bodies: Mapping[str, str]) -> str:
    def included(match: re.Match[str]) -> str:
        indent, other = match.groups()
        if other not in bodies:
            raise ValueError(f"query {name} includes {other}, which is not there")
        return "\n".join(indent + line for line in _expand(other, bodies).split("\n"))

    return _INCLUDE.sub(included, bodies[name])
