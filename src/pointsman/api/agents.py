"""The routes on agents and their circuit breakers: register, renew, leave, list, switch on and off, pin.

Must not know where agents are kept, nor which of them get calls. Agents belong to the cluster and not to a tenant: a
request on behalf of a tenant may not see or change them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.agents.addresses import AddressRefused
from pointsman.agents.card import PULL, Card
from pointsman.agents.schema import InvalidSchema
from pointsman.api import views_agents as views
from pointsman.api.body import JsonBody
from pointsman.api.errors import ClusterOnly
from pointsman.api.parameters import TENANT, PathId
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.kernel import values
from pointsman.kernel.policy.breaker import PINS
from pointsman.ports.agents import (
    TTL_S_MAX,
    TTL_S_MIN,
    AgentDeclared,
    AgentNotFound,
    Agents,
    AgentView,
    InvalidCard,
)

REASON_CHARS_MAX = 1_000

Ttl = Annotated[float, Meta(ge=TTL_S_MIN, le=TTL_S_MAX)]


class RegisterBody(msgspec.Struct, forbid_unknown_fields=True):
    card: views.CardJson
    ttl_s: Ttl


class RenewBody(msgspec.Struct, forbid_unknown_fields=True):
    ttl_s: Ttl


class DisableBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = ""


class PinBody(msgspec.Struct, forbid_unknown_fields=True):
    state: Annotated[str, Meta(pattern=f"^({'|'.join(PINS)})$")]


REGISTER = JsonBody(RegisterBody)
RENEW = JsonBody(RenewBody)
DISABLE = JsonBody(DisableBody, default=DisableBody())
PIN = JsonBody(PinBody)
NAME = PathId("name", "The agent's name.")
ON_AGENT = (ClusterOnly, AgentNotFound)
ON_REGISTERED = (*ON_AGENT, AgentDeclared)

_card_decoder = msgspec.json.Decoder(Card)


class AgentRoutes:
    """Handlers over the cluster's `Agents`."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    @route(
        "list_agents", "GET", "/v1/agents", "All agents, by name", tag="agents", parameters=(TENANT,),
        answers=(Answer(200, views.AgentsBody, "All that are declared, registered, or were switched off."),),
        errors=(ClusterOnly,),
    )  # fmt: skip
    async def list(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, views.agents(await self._agents.list()))

    @route(
        "get_agent", "GET", "/v1/agents/{name}", "One agent", tag="agents", parameters=(NAME, TENANT),
        answers=(Answer(200, views.AgentBody, "The agent, with its card."),), errors=ON_AGENT,
    )  # fmt: skip
    async def get(self, request: ApiRequest) -> Reply:
        return await self._one(request, self._agents.get)

    @route(
        "register_agent", "PUT", "/v1/agents/{name}", "Register an agent, or renew it",
        tag="agents", parameters=(NAME, TENANT), body=REGISTER,
        answers=(
            Answer(201, views.AgentBody, "It is known, to all coordinators within a second."),
            Answer(200, views.AgentBody, "It was known, and has this card now."),
        ),
        errors=(ClusterOnly, AgentDeclared, InvalidCard, AddressRefused, InvalidSchema),
    )  # fmt: skip
    async def register(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        name = request.value(NAME)
        body = await REGISTER.read(request)
        registered = await self._agents.register(_checked_card(bytes(body.card), name), ttl_s=body.ttl_s)
        return Reply(201 if registered.created else 200, views.agent(registered.view))

    @route(
        "renew_agent", "POST", "/v1/agents/{name}/renew", "Go on being registered", tag="agents",
        parameters=(NAME, TENANT), body=RENEW, answers=(Answer(200, views.AgentBody, "It is."),), errors=ON_REGISTERED,
    )  # fmt: skip
    async def renew(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        name = request.value(NAME)
        body = await RENEW.read(request)
        return Reply(200, views.agent(await self._agents.renew(name, ttl_s=body.ttl_s)))

    @route(
        "leave_agent", "DELETE", "/v1/agents/{name}", "End a registration", tag="agents", parameters=(NAME, TENANT),
        answers=(Answer(200, views.LeftBody, "There is none now."),), errors=ON_REGISTERED,
    )  # fmt: skip
    async def leave(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        name = request.value(NAME)
        return Reply(200, views.left(name, was_registered=await self._agents.leave(name)))

    @route(
        "enable_agent", "POST", "/v1/agents/{name}/enable", "Let an agent have calls again", tag="agents",
        parameters=(NAME, TENANT), answers=(Answer(200, views.AgentBody, "It does."),), errors=ON_AGENT,
    )  # fmt: skip
    async def enable(self, request: ApiRequest) -> Reply:
        return await self._one(request, self._agents.enable)

    @route(
        "disable_agent", "POST", "/v1/agents/{name}/disable", "Let an agent have no new calls", tag="agents",
        parameters=(NAME, TENANT), body=DISABLE, errors=ON_AGENT,
        answers=(Answer(200, views.AgentBody, "It gets none; attempts under way go on."),),
    )  # fmt: skip
    async def disable(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        name = request.value(NAME)
        reason = (await DISABLE.read(request)).reason
        values.encode(reason)
        return Reply(200, views.agent(await self._agents.disable(name, reason=reason)))

    @route(
        "list_breakers", "GET", "/v1/breakers", "The circuit breaker of each agent", tag="breakers",
        parameters=(TENANT,), answers=(Answer(200, views.BreakersBody, "By agent."),), errors=(ClusterOnly,),
    )  # fmt: skip
    async def breakers(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, views.breakers(await self._agents.breakers()))

    @route(
        "pin_breaker", "POST", "/v1/breakers/{name}/pin", "Hold a breaker open or closed", tag="breakers",
        parameters=(NAME, TENANT), body=PIN, answers=(Answer(200, views.BreakerBody, "It is held."),), errors=ON_AGENT,
    )  # fmt: skip
    async def pin(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        name = request.value(NAME)
        body = await PIN.read(request)
        return Reply(200, views.breaker(await self._agents.pin_breaker(name, body.state)))

    @route(
        "unpin_breaker", "POST", "/v1/breakers/{name}/unpin", "Let a breaker decide itself again", tag="breakers",
        parameters=(NAME, TENANT), answers=(Answer(200, views.BreakerBody, "It does."),), errors=ON_AGENT,
    )  # fmt: skip
    async def unpin(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, views.breaker(await self._agents.unpin_breaker(request.value(NAME))))

    async def _one(self, request: ApiRequest, verb: Callable[[str], Awaitable[AgentView]]) -> Reply:
        refuse_tenant(request)
        return Reply(200, views.agent(await verb(request.value(NAME))))


def refuse_tenant(request: ApiRequest) -> None:
    """Refuse a request on behalf of a tenant, because it is about the whole cluster. Raises: ClusterOnly."""
    if request.has(TENANT):
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
    if card.url is None and card.transport is None:
        raise InvalidCard(
            f"agent {name}: without a url nobody can reach it; say transport: {PULL} if workers do its work"
        )
    return values.encode(card)
