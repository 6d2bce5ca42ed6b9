"""What agents and clients write down, each in a file of their own that no coordinator reads.

One line is one `os.write` to a file opened with O_APPEND: lines of several processes never mix, and a SIGKILL leaves
whole lines behind. Times are milliseconds since 1970 by this machine's clock, which all of them share.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec


class Invocation(msgspec.Struct, frozen=True):
    """An agent's function began, or came to its end (`ok`: with a result). `key`: the call's idempotency key."""

    event: Literal["start", "end"]
    agent: str
    run: str
    attempt: int
    key: str
    epoch: int
    pid: int
    wall_ms: float
    ok: bool = True


class Acknowledged(msgspec.Struct, frozen=True):
    """A client was told so: its run is started (`value`: whether by this request), its signal is accepted (the key),
    its run has this result."""

    what: Literal["start", "signal", "result"]
    run: str
    wall_ms: float
    value: Any = None


class RecordsDamaged(ValueError):
    """A line is none that an agent or a client writes: the file was changed by hand, or is another's."""


T = TypeVar("T", Invocation, Acknowledged)


def now_ms() -> float:
    """Milliseconds since 1970."""
    return time.time() * 1000


def open_records(path: str | os.PathLike[str]) -> int:
    """The file's descriptor, for `write`."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def write(descriptor: int, line: Invocation | Acknowledged, *, durably: bool = False) -> None:
    """Append one line; `durably`: it is on the disk when this returns."""
    os.write(descriptor, msgspec.json.encode(line) + b"\n")
    if durably:
        os.fsync(descriptor)


def read(path: str | os.PathLike[str], kind: type[T]) -> list[T]:
    """All lines, in the order in which they were written; none if there is no file.

    Raises:
        RecordsDamaged
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    lines = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            lines.append(decoder.decode(line))
        except msgspec.DecodeError as error:
            raise RecordsDamaged(f"{path}, line {number}: {error}. {RecordsDamaged.__doc__}") from error
    return lines
