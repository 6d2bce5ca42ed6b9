"""The JSON of agents, breakers and effects, by the rules of `views.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.api.views import encode, time
from pointsman.ports.agents import AgentView, BreakerView

CardJson = Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Card"})]
"""An agent card as its bytes, with its schema in the OpenAPI document."""


class AgentBody(msgspec.Struct):
    name: str
    registered: bool
    enabled: bool
    health: str
    breaker: str
    problem: str | None
    expires_at: str | None
    workers: int | None
    card: CardJson


class AgentsBody(msgspec.Struct):
    agents: list[AgentBody]


class LeftBody(msgspec.Struct):
    name: str
    was_registered: bool


class BreakerBody(msgspec.Struct):
    agent: str
    state: str
    pinned: str | None
    reason: str
    since: str | None
    calls: int
    failures: int
    slow: int


class BreakersBody(msgspec.Struct):
    breakers: list[BreakerBody]


class EffectBody(msgspec.Struct):
    key: str
    name: str
    value: msgspec.Raw


class AttemptBody(msgspec.Struct):
    key: str
    attempt: int


def agents(views: Sequence[AgentView]) -> bytes:
    return encode(AgentsBody([_agent_body(view) for view in views]))


def agent(view: AgentView) -> bytes:
    return encode(_agent_body(view))


def left(name: str, *, was_registered: bool) -> bytes:
    return encode(LeftBody(name, was_registered))


def breakers(views: Sequence[BreakerView]) -> bytes:
    return encode(BreakersBody([_breaker_body(view) for view in views]))


def breaker(view: BreakerView) -> bytes:
    return encode(_breaker_body(view))


def effect(key: str, name: str, value: bytes) -> bytes:
    return encode(EffectBody(key, name, msgspec.Raw(value)))


def attempt(key: str, number: int) -> bytes:
    return encode(AttemptBody(key, number))


def _agent_body(view: AgentView) -> AgentBody:
    return AgentBody(
        name=view.name,
        registered=view.registered,
        enabled=view.enabled,
        health=view.health,
        breaker=view.breaker,
        problem=view.problem,
        expires_at=None if view.expires_at is None else time(view.expires_at),
        workers=view.workers,
        card=view.card,
    )


def _breaker_body(view: BreakerView) -> BreakerBody:
    return BreakerBody(
        agent=view.agent,
        state=view.state,
        pinned=view.pinned,
        reason=view.reason,
        since=None if view.since is None else time(view.since),
        calls=view.calls,
        failures=view.failures,
        slow=view.slow,
    )
