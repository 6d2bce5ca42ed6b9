"""The routes of agents behind HTTP on the attempt that they are at: effects, heartbeats, spending.

A call is named by the idempotency key of its attempts (run/generation/call), in the query or the body: it may hold
slashes. Must not know who drives the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.agents.context import EFFECT_NAME_CHARS_MAX
from pointsman.api import views_agents as views
from pointsman.api.body import check_depth, decode_body
from pointsman.api.errors import EffectNotFound, InvalidJson, InvalidQuery
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS, Amount, micros
from pointsman.ports.agents import Attempts, CallAddress

Number = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class HeartbeatBody(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    attempt: Number


class SpendBody(msgspec.Struct, forbid_unknown_fields=True):
    """`usd` and `tokens`: what the attempt used up so far, in all."""

    key: str
    attempt: Number
    usd: Annotated[float, Meta(ge=0, le=COUNT_MAX / MICROS)] = 0.0
    tokens: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


_heartbeat_decoder = msgspec.json.Decoder(HeartbeatBody)
_spend_decoder = msgspec.json.Decoder(SpendBody)


class AttemptRoutes:
    """Handlers over the cluster's `Attempts`.

    Args:
        visible: the run's id out of a request, if the tenant that it speaks for may see that run.
    """

    def __init__(self, attempts: Attempts, visible: Callable[[ApiRequest], Awaitable[str]]) -> None:
        self._attempts = attempts
        self._visible = visible

    async def find_effect(self, request: ApiRequest) -> Reply:
        key, name = _effect_of(request)
        call = _call_of(key, await self._visible(request))
        value = await self._attempts.find_effect(call, name)
        if value is None:
            raise EffectNotFound
        return Reply(200, views.effect(key, name, value))

    async def record_effect(self, request: ApiRequest) -> Reply:
        key, name = _effect_of(request)
        call = _call_of(key, await self._visible(request))
        raw = await request.body()
        if not raw:
            raise InvalidJson("an effect's value is the body, as JSON; null is one")
        check_depth(raw, request.settings.json_depth_max)
        effect = await self._attempts.record_effect(call, name, values.encode(values.decode(raw)))
        return Reply(201 if effect.created else 200, views.effect(key, name, bytes(effect.value)))

    async def heartbeat(self, request: ApiRequest) -> Reply:
        request.query()
        run = await self._visible(request)
        body = decode_body(await request.body(), _heartbeat_decoder, HeartbeatBody.__struct_fields__)
        await self._attempts.heartbeat(_call_of(body.key, run), body.attempt)
        return Reply(200, views.attempt(body.key, body.attempt))

    async def spend(self, request: ApiRequest) -> Reply:
        request.query()
        run = await self._visible(request)
        body = decode_body(await request.body(), _spend_decoder, SpendBody.__struct_fields__)
        so_far = Amount(usd_micros=micros(body.usd), tokens=body.tokens)
        await self._attempts.spend(_call_of(body.key, run), body.attempt, so_far)
        return Reply(200, views.attempt(body.key, body.attempt))


def _effect_of(request: ApiRequest) -> tuple[str, str]:
    """Key and name of an effect. Raises: InvalidQuery."""
    query = request.query("key", "name")
    key, name = query.text("key"), query.text("name")
    if not key or not name or len(name) > EFFECT_NAME_CHARS_MAX:
        raise InvalidQuery(f"an effect has a key and a name of 1 to {EFFECT_NAME_CHARS_MAX} characters")
    values.encode(name)
    return key, name


def _call_of(key: str, run: str) -> CallAddress:
    """Raises: InvalidValue: no key, or another run's."""
    values.encode(key)
    call = CallAddress.parse(key)
    if call.run != run:
        raise InvalidValue(f"the key is of run {call.run}, the path of run {run}")
    return call
