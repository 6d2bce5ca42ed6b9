"""The options of a call beyond its result: what to do when the agent fails, and how urgent the call is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.asking import ANYBODY, Person, Question, person_of
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.policy.modes import OPTIONAL

PRIORITY_MAX = 1_000


class NoDefault:
    """Marks a call without a default. (None is a valid default.)"""


NO_DEFAULT = NoDefault()


class Wanted(msgspec.Struct, frozen=True):
    """The options of a call as the body gave them; `state.CallOptions` is what the log keeps of them."""

    fallback: tuple[str, ...] | None = None
    person: Person | None = None
    default: Any = NO_DEFAULT
    priority: int = 0
    optional: str = ""


AS_USUAL = Wanted()


def as_wanted(
    fallback: Sequence[Any] | None, person: str | Question, default: Any, priority: int, optional: str = ""
) -> Wanted:
    """Check the options of `run.call`. Raises InvalidValue."""
    if isinstance(fallback, str):
        raise InvalidValue(f"fallback={fallback!r}: give a list of agents or names")
    if not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        raise InvalidValue(f"priority={priority}: ±{PRIORITY_MAX} at most")
    if type(priority) is not int:
        raise InvalidValue(f"priority={priority!r}: a whole number")
    if optional and optional not in OPTIONAL:
        raise InvalidValue(f"optional={optional!r}: a call is optional for {' or '.join(OPTIONAL)}")
    names = None if fallback is None else tuple(who if isinstance(who, str) else who.name for who in fallback)
    return Wanted(names, person_of(person), default, priority, optional)


def special_of(wanted: Wanted, default: bytes) -> dict[str, Any]:
    """The fields of a call's event that hold these options."""
    return {
        "fallback": wanted.fallback,
        "person": _recorded(wanted.person),
        "default": msgspec.Raw(default) if default else ev.ABSENT,
        "priority": wanted.priority,
    }


def _recorded(person: Person | None) -> Person | str:
    """A question as the log has it: plain text if it has no terms, as in logs older than terms."""
    if person is None:
        return ""
    return person.question if person.terms == ANYBODY else person
