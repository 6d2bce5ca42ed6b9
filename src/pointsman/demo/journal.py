"""The demo's evidence: a file to which every agent call appends its start and its end, outside the engine.

Repeats are counted from it, so it must not know the event log. One line is one `os.write` to a file opened
with `O_APPEND`: lines of several processes never mix, and a SIGKILL leaves whole lines behind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import msgspec

JOURNAL = "POINTSMAN_DEMO_JOURNAL"


class Attempt(Protocol):
    """The part of the engine's call context that the journal writes down."""

    @property
    def run(self) -> str: ...
    @property
    def call(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def epoch(self) -> int: ...


class Line(msgspec.Struct, frozen=True):
    """One line of the journal. `wall_ms` is the wall clock in milliseconds since 1970."""

    event: Literal["start", "end"]
    agent: str
    run: str
    call: str
    attempt: int
    key: str
    epoch: int
    pid: int
    wall_ms: float
    ok: bool = True


class JournalDamaged(ValueError):
    """The journal has a line that is not one of its own: delete the file and run the demo again."""


@lru_cache(maxsize=8)
def _descriptor(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


def write(line: Line, path: str | None = None) -> None:
    """Append one line; without a path, to the file that the environment names, or nowhere."""
    target = path or os.environ.get(JOURNAL)
    if target:
        os.write(_descriptor(target), msgspec.json.encode(line) + b"\n")


@contextlib.asynccontextmanager
async def recorded(agent: str, attempt: Attempt) -> AsyncIterator[None]:
    """Write the start of an attempt, and its end when it ends, well or badly; a kill leaves the start
    alone."""
    _note("start", agent, attempt)
    try:
        yield
    except BaseException:
        _note("end", agent, attempt, ok=False)
        raise
    _note("end", agent, attempt)


def _note(event: Literal["start", "end"], agent: str, at: Attempt, *, ok: bool = True) -> None:
    if os.environ.get(JOURNAL):
        now = time.time() * 1000
        write(
            Line(
                event,
                agent,
                str(at.run),
                str(at.call),
                at.attempt,
                at.idempotency_key,
                at.epoch,
                os.getpid(),
                now,
                ok,
            )
        )


@dataclass(frozen=True)
class Count:
    """What a journal says, by idempotency key. `repeated` holds the keys started more than once, with their
    number of starts; `repeated_after_end` those started again after an end was written (an end is not yet a
    committed outcome: only the event log knows that); `unfinished` those that never ended well."""

    starts: int
    ends: int
    calls: int
    repeated: dict[str, int]
    repeated_after_end: frozenset[str]
    unfinished: frozenset[str]
    agents: dict[str, int]

    @property
    def calls_repeated(self) -> int:
        return len(self.repeated)


def read(path: str | os.PathLike[str]) -> Iterator[Line]:
    """The journal's lines in file order, which is the order in which they were written."""
    decoder = msgspec.json.Decoder(Line)
    with Path(path).open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                yield decoder.decode(raw)
            except msgspec.DecodeError as error:
                text = f"{path}, line {number}: {error}. {JournalDamaged.__doc__}"
                raise JournalDamaged(text) from error


def count(lines: Iterable[Line]) -> Count:
    """Fold a journal by idempotency key. A retry counts as a repeat too: the agent did start again."""
    starts: dict[str, int] = {}
    ended: set[str] = set()
    after_end: set[str] = set()
    agents: dict[str, int] = {}
    ends = 0
    for line in lines:
        if line.event == "start":
            starts[line.key] = starts.get(line.key, 0) + 1
            agents[line.agent] = agents.get(line.agent, 0) + 1
            if line.key in ended:
                after_end.add(line.key)
        else:
            ends += 1
            if line.ok:
                ended.add(line.key)
    return Count(
        starts=sum(starts.values()),
        ends=ends,
        calls=len(starts),
        repeated={key: n for key, n in starts.items() if n > 1},
        repeated_after_end=frozenset(after_end),
        unfinished=frozenset(starts.keys() - ended),
        agents=dict(sorted(agents.items())),
    )
