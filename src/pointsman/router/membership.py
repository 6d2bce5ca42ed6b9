"""Which coordinators there are and which one is next: announcements, silence, refusals, rendezvous hashing.

Must not know sockets or clocks: `now` (seconds that never go back) is an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from msgspec import Meta

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:~@-]{0,127}$"


class StaleIncarnation(Exception):
    """A newer incarnation of the coordinator is announced and alive."""


class TooManyCoordinators(Exception):
    """As many names are known as may be."""


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a coordinator says of itself. `load` is for people and metrics (placement goes by the key);
    `leaving` is final for its incarnation."""

    name: Annotated[str, Meta(pattern=_NAME)]
    address: Annotated[str, Meta(max_length=300)]
    incarnation: Annotated[int, Meta(ge=0)]
    load: Annotated[float, Meta(ge=0)] = 0.0
    leaving: bool = False


class Member:
    """One coordinator. `heard_at` is None for one of the static list."""

    __slots__ = (
        "_hash", "address", "down_until", "failing", "heard_at", "incarnation", "leaving", "load", "name",
        "silence_told", "unanswered",
    )  # fmt: skip

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.incarnation = 0
        self.load = 0.0
        self.leaving = False
        self.heard_at: float | None = None
        self.failing = False
        self.down_until = 0.0
        self.silence_told = False
        self.unanswered = False  # the last probe got no answer
        self._hash = blake2b(name.encode() + b"\0", digest_size=8)

    def weight(self, key: bytes) -> bytes:
        digest = self._hash.copy()
        digest.update(key)
        return digest.digest()


class Membership:
    """The coordinators that the router knows.

    Args:
        static: addresses that are always tried; an announcement from the same address takes their place.
        silent_s, forget_s, down_s, coordinators_max: as in `RouterSettings`.
    """

    def __init__(
        self,
        *,
        static: Iterable[str] = (),
        silent_s: float = 1.5,
        forget_s: float = 60.0,
        down_s: float = 0.5,
        coordinators_max: int = 1_000,
    ) -> None:
        self.static = [Member(address, address) for address in dict.fromkeys(static)]
        self._announced: dict[str, Member] = {}
        self._silent_s = silent_s
        self._forget_s = forget_s
        self._down_s = down_s
        self._max = coordinators_max
        self._turn = 0

    def probed(self, now: float) -> list[Member]:
        """Whom to ask for a sign of life: all that would be used if they answer."""
        heard = [m for m in self._announced.values() if self._heard(m, now)]
        spoken_for = {m.address for m in heard}  # whoever is there speaks for itself
        return [m for m in heard if not m.leaving] + [m for m in self.static if m.address not in spoken_for]

    def announce(self, said: Announcement, now: float) -> None:
        """Raises: StaleIncarnation, TooManyCoordinators."""
        member = self._announced.get(said.name)
        if member is None:
            if len(self._announced) >= self._max:
                raise TooManyCoordinators
            member = self._announced[said.name] = Member(said.name, said.address)
            member.incarnation = said.incarnation
        elif said.incarnation < member.incarnation and self._heard(member, now) and not member.leaving:
            raise StaleIncarnation
        if (member.incarnation, member.address) != (said.incarnation, said.address):
            # Another process: what was held against the old one does not count.
            member.incarnation, member.address, member.leaving = said.incarnation, said.address, False
            member.unanswered = False
            self.answered(member)
        member.leaving = member.leaving or said.leaving  # two announcements may overtake each other
        member.load = said.load
        member.heard_at = now
        member.silence_told = False

    def pick(self, key: bytes | None, tried: Collection[Member], now: float) -> Member | None:
        """The next coordinator for a key, in rendezvous order; without a key each in turn. None if all that
        are usable were tried.

        A coordinator that refused is picked once when its time is over, as a probe; others pass it by until
        it `answered`.
        """
        usable = [m for m in self._used(now) if now >= m.down_until and m not in tried]
        if not usable:
            return None
        if key is None:
            self._turn += 1
            chosen = usable[self._turn % len(usable)]
        else:
            chosen = max(usable, key=lambda m: m.weight(key))
        if chosen.failing:
            chosen.down_until = now + self._down_s
        return chosen

    def has_other(self, tried: Collection[Member], now: float) -> bool:
        """Whether there is another usable coordinator that was not tried."""
        return any(now >= m.down_until and m not in tried for m in self._used(now))

    def find(self, address: str, tried: Collection[Member], now: float) -> Member | None:
        """The coordinator at this address, if it is usable and was not tried."""
        return next((m for m in self._used(now) if m.address == address and m not in tried), None)

    def knows(self, address: str) -> bool:
        """Whether there is a coordinator at this address, usable or not."""
        return any(m.address == address for m in (*self._announced.values(), *self.static))

    def refused(self, member: Member, now: float) -> None:
        """Note that a coordinator did not accept a connection, or asked to send elsewhere."""
        member.failing = True
        member.down_until = now + self._down_s

    def answered(self, member: Member) -> None:
        member.failing = False
        member.down_until = 0.0

    def anybody_answers(self, now: float) -> bool:
        return any(not m.unanswered for m in self.probed(now))

    def ready(self, now: float) -> bool:
        return any(not m.failing for m in self._used(now))

    def fallen_silent(self, now: float) -> list[Member]:
        """The ones that fell silent since this was last asked; who said that it leaves did not. Forgets those
        that were silent for long."""
        fallen = []
        for member in list(self._announced.values()):
            age = now - (member.heard_at or 0.0)
            if age >= self._forget_s:
                del self._announced[member.name]
            if age >= self._silent_s and not member.silence_told and not member.leaving:
                member.silence_told = True
                fallen.append(member)
        return fallen

    def rows(self, now: float) -> list[dict[str, Any]]:
        """Every coordinator known, as it is listed."""
        return [
            {
                "name": m.name,
                "address": m.address,
                "incarnation": None if m.heard_at is None else m.incarnation,
                "load": m.load,
                "state": self._state(m, now),
                "age_ms": None if m.heard_at is None else round((now - m.heard_at) * 1_000),
            }
            for m in (*self._announced.values(), *self.static)
        ]

    def _state(self, member: Member, now: float) -> str:
        if member.leaving:
            return "leaving"
        if member.heard_at is not None and not self._heard(member, now):
            return "silent"
        if member.unanswered:
            return "silent"
        if member not in self._used(now):
            return "announced"  # of the static list; it goes by its announced name
        return "down" if member.failing else "live"

    def _heard(self, member: Member, now: float) -> bool:
        return member.heard_at is not None and now - member.heard_at < self._silent_s

    def _used(self, now: float) -> list[Member]:
        """Those that answer; if none does, those that at least announce themselves: all are slow, and nobody gains by
        an error."""
        probed = self.probed(now)
        return [m for m in probed if not m.unanswered] or [m for m in probed if m.heard_at is not None]
