"""The record of an agent: what its stream `agent/X` adds up to. Registration, operator's switch, health, traffic.

Nobody owns the stream. A decision here is a pure function of the folded state; its events are appended at the expected
sequence, and who loses a race decides again on what it reads then. All times are ms by the database's clock.

An agent of the app has a record only once something was recorded of it; its card is in the code, not here.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import msgspec

from pointsman.agents.card import NAME, PULL, Card, Health
from pointsman.agents.traffic import TRAFFIC_EVENTS, TrafficState
from pointsman.kernel.errors import InvalidValue, UnknownEvent
from pointsman.kernel.events import Event, Failure, Recorded
from pointsman.kernel.policy.breaker import Breaker
from pointsman.kernel.values import decode, encode, faithful
from pointsman.ports.agents import AgentNotFound, InvalidCard

PREFIX = "agent/"
CARD_BYTES_MAX = 200_000
"""Two schemas of the largest size, and what stands beside them."""
REASON_CHARS_MAX = 500


class AgentRegistered(Event, frozen=True, omit_defaults=True):
    """A service made itself known, or came back with another card. `until`: when it has to have renewed."""

    card: Card
    until: int


class RegistrationRenewed(Event, frozen=True):
    until: int


class AgentLeft(Event, frozen=True, omit_defaults=True):
    reason: str = ""


class AgentDisabled(Event, frozen=True, omit_defaults=True):
    by: str = ""
    reason: str = ""


class AgentEnabled(Event, frozen=True, omit_defaults=True):
    by: str = ""


class HealthTurnTaken(Event, frozen=True):
    """This incarnation alone polls the agent's health check, until then. One that gives it up takes it until now."""

    incarnation: int
    until: int


class AgentUnhealthy(Event, frozen=True, omit_defaults=True):
    reason: str = ""


class AgentHealthy(Event, frozen=True):
    pass


AGENT_EVENTS: dict[str, type[Event]] = {
    cls.__name__: cls
    for cls in (
        AgentRegistered, RegistrationRenewed, AgentLeft, AgentDisabled, AgentEnabled, HealthTurnTaken, AgentUnhealthy,
        AgentHealthy,
    )
} | TRAFFIC_EVENTS  # fmt: skip


class Switch(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator switched the agent off."""

    by: str = ""
    reason: str = ""


class HealthTurn(msgspec.Struct, frozen=True):
    """Who polls the health check, and until when."""

    incarnation: int
    until: int


class AgentRecord(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The folded state of an agent's stream. As JSON it is the state that goes with each append.

    A record with a field of a newer release is refused, because an append from here would lose the field.

    Attributes:
        card: of an agent that registered itself; it stays when the agent leaves, because runs that called it replay.
        until: when its registration lapses, unless it is renewed. left: the reason, if it said good-bye.
        disabled: None while it is switched on.
        health: `unknown` (no verdict since it registered), `healthy`, `unhealthy`; `health_reason` for the last.
    """

    card: Card | None = None
    until: int = 0
    left: str | None = None
    disabled: Switch | None = None
    health: str = "unknown"
    health_reason: str = ""
    turn: HealthTurn | None = None
    traffic: TrafficState = msgspec.field(default_factory=TrafficState)

    def evolve(self, event: Event, at: int) -> None:
        """Fold one event in. `at`: when it was appended."""
        match event:
            case AgentRegistered(card=card, until=until):
                if not self.is_registered(at) or card != self.card:
                    self.health, self.health_reason = "unknown", ""  # it says nothing of what came now
                self.card, self.until, self.left = card, until, None
            case RegistrationRenewed(until=until):
                self.until = until
            case AgentLeft(reason=reason):
                self.left = reason
            case AgentDisabled(by=by, reason=reason):
                self.disabled = Switch(by, reason)
            case AgentEnabled():
                self.disabled = None
            case HealthTurnTaken(incarnation=incarnation, until=until):
                self.turn = HealthTurn(incarnation, until)
            case AgentUnhealthy(reason=reason):
                self.health, self.health_reason = "unhealthy", reason
            case AgentHealthy():
                self.health, self.health_reason = "healthy", ""
            case _ if not self.traffic.evolve(event, at):
                raise UnknownEvent(f"{type(event).__name__} is no event of an agent's stream")

    def is_registered(self, now: int) -> bool:
        return self.card is not None and self.left is None and now < self.until

    def problem(self, name: str, now: int, *, is_own: bool, breaker: Breaker) -> Failure | None:
        """Why the agent can't be given a call at `now`. `is_own`: the app has it, so a registration of its name
        means nothing."""
        if self.disabled is not None:
            return _problem("disabled", f"{name} is switched off", self.disabled.reason)
        if not is_own and self.left is not None:
            return _problem("departed", f"{name} has left", self.left)
        if not is_own and now >= self.until:
            return _problem("departed", f"{name} did not renew its registration", "")
        if self.health == "unhealthy":
            return _problem("unhealthy", f"{name} fails its health check", self.health_reason)
        state = self.traffic.breaker
        if state.holds_back(breaker, now):
            why = state.reason if state.pinned is None else f"pinned by {state.pinned_by or 'an operator'}"
            position = (state.pinned or state.position).replace("_", "-")
            return _problem("breaker_open", f"the circuit breaker of {name} is {position}", why)
        return None

    def may_have_problem(self) -> bool:
        """Could `problem` say anything, now or later, without another event?"""
        is_well = self.disabled is None and self.health != "unhealthy" and self.traffic.breaker.is_closed
        return self.card is not None or not is_well


def _problem(kind: str, what: str, why: str) -> Failure:
    return Failure(kind, f"{what}: {why}" if why else what, retryable=False)


# -- decisions ---------------------------------------------------------------------------------------------------------


def register(record: AgentRecord, card: Card, ttl_ms: int, now: int) -> list[Event]:
    """The card is checked already (`read_card`). A card that differs takes the place of the one before: that is how a
    service is deployed anew. A switch set by an operator stays."""
    if record.is_registered(now) and record.card == card:
        return [RegistrationRenewed(now + ttl_ms)]
    return [AgentRegistered(card, now + ttl_ms)]


def renew(record: AgentRecord, name: str, ttl_ms: int, now: int) -> list[Event]:
    """Raises AgentNotFound: it is not registered (any more); it has to send its card again."""
    if not record.is_registered(now):
        raise AgentNotFound(f"agent {name!r} is not registered, or no longer: register it again, with its card")
    return [RegistrationRenewed(now + ttl_ms)]


def leave(record: AgentRecord, reason: str, now: int) -> list[Event]:
    return [AgentLeft(faithful(reason, REASON_CHARS_MAX))] if record.is_registered(now) else []


def disable(record: AgentRecord, by: str, reason: str) -> list[Event]:
    switch = Switch(faithful(by, REASON_CHARS_MAX), faithful(reason, REASON_CHARS_MAX))
    return [] if record.disabled == switch else [AgentDisabled(switch.by, switch.reason)]


def enable(record: AgentRecord, by: str) -> list[Event]:
    return [] if record.disabled is None else [AgentEnabled(faithful(by, REASON_CHARS_MAX))]


def is_turn_free(record: AgentRecord, incarnation: int, living: Set[int] | None, now: int) -> bool:
    """May this incarnation poll the agent? `living`: the incarnations that are; None: not looked up."""
    turn = record.turn
    return (
        turn is None
        or turn.until <= now
        or turn.incarnation == incarnation
        or (living is not None and turn.incarnation not in living)
    )


def take_health_turn(
    record: AgentRecord, incarnation: int, turn_ms: int, now: int, living: Set[int] | None = None
) -> list[Event]:
    """Empty: another has it."""
    if not is_turn_free(record, incarnation, living, now):
        return []
    return [HealthTurnTaken(incarnation, now + turn_ms)]


def give_up_health_turn(record: AgentRecord, incarnation: int, now: int) -> list[Event]:
    """So that another need not wait until it lapses."""
    if record.turn is None or record.turn.incarnation != incarnation or record.turn.until <= now:
        return []
    return [HealthTurnTaken(incarnation, now)]


def checked(
    record: AgentRecord, policy: Health, incarnation: int, *, misses: int, successes: int, reason: str = ""
) -> list[Event]:
    """What so many misses, or successes, in a row mean. Nothing, when whoever counted them no longer has the turn.
    The first success of an agent without a verdict is one: it had nothing to recover from."""
    if record.turn is None or record.turn.incarnation != incarnation:
        return []
    if misses >= policy.misses and record.health != "unhealthy":
        return [AgentUnhealthy(faithful(reason, REASON_CHARS_MAX))]
    enough = policy.successes if record.health == "unhealthy" else 1
    return [AgentHealthy()] if successes >= enough and record.health != "healthy" else []


# -- bytes ------------------------------------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()
_state_decoder = msgspec.json.Decoder(AgentRecord)
_card_decoder = msgspec.json.Decoder(Card)


def stream_of(name: str) -> str:
    return PREFIX + name


def read_record(state: bytes | None) -> AgentRecord:
    """The record of a stream's state; of none, an empty one.

    Raises:
        UnknownEvent: a newer release wrote what this one can't read.
    """
    if state is None:
        return AgentRecord()
    try:
        return _state_decoder.decode(state)
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"an agent's record can't be read by this release: {error}") from error


def write_record(record: AgentRecord) -> bytes:
    return _encoder.encode(record)


def read_event(recorded: Recorded) -> Event:
    """Raises UnknownEvent."""
    kind = AGENT_EVENTS.get(recorded.type)
    if kind is None or recorded.version != kind.VERSION:
        raise UnknownEvent(f"event {recorded.sequence} is a {recorded.type} v{recorded.version}: run a newer release")
    try:
        return msgspec.json.decode(recorded.body, type=kind)
    except msgspec.MsgspecError as error:
        raise UnknownEvent(f"event {recorded.sequence} is not a {recorded.type}: {error}") from error


def read_card(data: bytes) -> Card:
    """A card that a service sent. Its URLs and schemas are for others to judge (`addresses.py`, `schema.py`).

    Raises:
        InvalidCard: what is wrong with it, and what would be right.
    """
    try:
        plain: Any = decode(data, bytes_max=CARD_BYTES_MAX)
        card = _card_decoder.decode(encode(plain, bytes_max=CARD_BYTES_MAX))
        card.check()
    except (InvalidValue, ValueError) as error:
        raise InvalidCard(faithful(f"the agent card: {error}", REASON_CHARS_MAX)) from error
    if card.url is None and card.transport is None:
        raise InvalidCard(
            f"agent {card.name}: url is missing: a registered agent is reached by POST to it, or workers fetch its "
            f"calls (transport: {PULL})"
        )
    if any(not NAME.fullmatch(name) for name in card.fallback or ()):
        raise InvalidCard(f"agent {card.name}: fallback={list(card.fallback or ())}: names of agents")
    return card
