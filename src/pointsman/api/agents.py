"""The routes on agents and their circuit breakers: register, renew, leave, list, switch on and off, pin.

Must not know where agents are kept, nor which of them get calls. Agents belong to the cluster and not to a tenant: a
request that speaks for one may not see or change them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.agents.card import Card
from pointsman.api import views_agents as views
from pointsman.api.body import check_depth, decode_body
from pointsman.api.errors import ClusterOnly
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.runs import TENANT_HEADER
from pointsman.kernel import values
from pointsman.ports.agents import PINNED_STATES, TTL_S_MAX, TTL_S_MIN, Agents, AgentView, InvalidCard

REASON_CHARS_MAX = 1_000

Ttl = Annotated[float, Meta(ge=TTL_S_MIN, le=TTL_S_MAX)]


class RegisterBody(msgspec.Struct, forbid_unknown_fields=True):
    card: msgspec.Raw
    ttl_s: Ttl


class RenewBody(msgspec.Struct, forbid_unknown_fields=True):
    ttl_s: Ttl


class DisableBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = ""


class PinBody(msgspec.Struct, forbid_unknown_fields=True):
    state: Annotated[str, Meta(pattern=f"^({'|'.join(PINNED_STATES)})$")]


_register_decoder = msgspec.json.Decoder(RegisterBody)
_renew_decoder = msgspec.json.Decoder(RenewBody)
_disable_decoder = msgspec.json.Decoder(DisableBody)
_pin_decoder = msgspec.json.Decoder(PinBody)
_card_decoder = msgspec.json.Decoder(Card)


class AgentRoutes:
    """Handlers over the cluster's `Agents`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def list(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        return Reply(200, views.agents(await self._agents.list()))

    async def get(self, request: ApiRequest) -> Reply:
        return await self._one(request, self._agents.get)

    async def register(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        name = request.id("name")
        raw = await request.body()
        check_depth(raw, request.settings.json_depth_max)
        body = decode_body(raw, _register_decoder, RegisterBody.__struct_fields__)
        registered = await self._agents.register(_checked_card(bytes(body.card), name), ttl_s=body.ttl_s)
        return Reply(201 if registered.created else 200, views.agent(registered.view))

    async def renew(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        name = request.id("name")
        body = decode_body(await request.body(), _renew_decoder, RenewBody.__struct_fields__)
        return Reply(200, views.agent(await self._agents.renew(name, ttl_s=body.ttl_s)))

    async def leave(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        name = request.id("name")
        return Reply(200, views.left(name, was_registered=await self._agents.leave(name)))

    async def enable(self, request: ApiRequest) -> Reply:
        return await self._one(request, self._agents.enable)

    async def disable(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        name = request.id("name")
        raw = await request.body()
        reason = decode_body(raw, _disable_decoder, DisableBody.__struct_fields__).reason if raw else ""
        values.encode(reason)
        return Reply(200, views.agent(await self._agents.disable(name, reason=reason)))

    async def breakers(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        return Reply(200, views.breakers(await self._agents.breakers()))

    async def pin(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        name = request.id("name")
        body = decode_body(await request.body(), _pin_decoder, PinBody.__struct_fields__)
        return Reply(200, views.breaker(await self._agents.pin_breaker(name, body.state)))

    async def unpin(self, request: ApiRequest) -> Reply:
        _check_plain(request)
        return Reply(200, views.breaker(await self._agents.unpin_breaker(request.id("name"))))

    async def _one(self, request: ApiRequest, verb: Callable[[str], Awaitable[AgentView]]) -> Reply:
        _check_plain(request)
        return Reply(200, views.agent(await verb(request.id("name"))))


def _check_plain(request: ApiRequest) -> None:
    """Raises: InvalidQuery (there are no parameters), ClusterOnly."""
    request.query()
    if TENANT_HEADER in request.headers:
        raise ClusterOnly


def _checked_card(raw: bytes, name: str) -> bytes:
    """The canonical JSON of an agent card. Raises: InvalidCard, InvalidValue."""
    try:
        card = _card_decoder.decode(raw)
        card.check()
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidCard(values.faithful(error)) from error
    if card.name != name:
        raise InvalidCard(f"the card is of {card.name!r}, the path is of {name!r}")
    if card.url is None:
        raise InvalidCard(f"agent {name}: without a url nobody can reach it")
    return values.encode(card)
