"""The routes on attempts, for agents behind HTTP: effects, heartbeats, spending.

A call is named by the idempotency key of its attempts (run/generation/call), in the query or the body, because it
may contain slashes. Must not know who drives the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.agents.context import EFFECT_NAME_CHARS_MAX
from pointsman.api import views_agents as views
from pointsman.api.body import AnyBody, JsonBody
from pointsman.api.errors import EffectNotFound
from pointsman.api.parameters import RUN, TENANT, NeededText
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.views_agents import AttemptBody, EffectBody
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue, RunEnded, UnknownRun
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS, Amount, micros
from pointsman.ports.agents import KEY_PATTERN, AttemptOver, Attempts, CallAddress

CALL_KEY_CHARS_MAX = 2_000
"""Limit of a call's key in a query; a call's id is a path through its branches and may be long."""

Number = Annotated[int, Meta(ge=1, le=2**31 - 1)]


CallKey = Annotated[str, Meta(extra_json_schema={"pattern": f"^{KEY_PATTERN}$"})]


class HeartbeatBody(msgspec.Struct, forbid_unknown_fields=True):
    key: CallKey
    attempt: Number


class SpendBody(msgspec.Struct, forbid_unknown_fields=True):
    """`usd` and `tokens`: what the attempt used up so far, in all."""

    key: CallKey
    attempt: Number
    usd: Annotated[float, Meta(ge=0, le=COUNT_MAX / MICROS)] = 0.0
    tokens: Annotated[int, Meta(ge=0, le=COUNT_MAX)] = 0


HEARTBEAT = JsonBody(HeartbeatBody)
SPEND = JsonBody(SpendBody)
EFFECT = AnyBody()
CALL_KEY = NeededText(
    "key",
    "The `Idempotency-Key` of the call's attempts: run/generation/call.",
    chars_max=CALL_KEY_CHARS_MAX,
    pattern=f"^{KEY_PATTERN}$",
)
EFFECT_NAME = NeededText("name", "The effect's name.", chars_max=EFFECT_NAME_CHARS_MAX)
ON_ATTEMPT = (UnknownRun, RunEnded, AttemptOver, InvalidValue)


class AttemptRoutes:
    """Handlers over the cluster's `Attempts`.

    Args:
        visible: returns the run's id in a request, if the request's tenant may see that run.
    """

    def __init__(self, attempts: Attempts, visible: Callable[[ApiRequest], Awaitable[str]]) -> None:
        self._attempts = attempts
        self._visible = visible

    @route(
        "find_effect", "GET", "/v1/runs/{run}/effects", "What an agent recorded with `once`", tag="attempts",
        parameters=(RUN, CALL_KEY, EFFECT_NAME, TENANT), answers=(Answer(200, EffectBody, "The value that stands."),),
        errors=(UnknownRun, EffectNotFound, InvalidValue),
    )  # fmt: skip
    async def find_effect(self, request: ApiRequest) -> Reply:
        key, name = _effect_of(request)
        call = call_of(key, await self._visible(request))
        value = await self._attempts.find_effect(call, name)
        if value is None:
            raise EffectNotFound
        return Reply(200, views.effect(key, name, value))

    @route(
        "record_effect", "PUT", "/v1/runs/{run}/effects", "Record an effect; the first wins", tag="attempts",
        parameters=(RUN, CALL_KEY, EFFECT_NAME, TENANT), body=EFFECT, errors=ON_ATTEMPT,
        answers=(
            Answer(201, EffectBody, "It is recorded, durably."),
            Answer(200, EffectBody, "Another stands, recorded before."),
        ),
    )  # fmt: skip
    async def record_effect(self, request: ApiRequest) -> Reply:
        key, name = _effect_of(request)
        call = call_of(key, await self._visible(request))
        value = values.encode(values.decode(await EFFECT.read(request)))
        effect = await self._attempts.record_effect(call, name, value)
        return Reply(201 if effect.created else 200, views.effect(key, name, bytes(effect.value)))

    @route(
        "heartbeat", "POST", "/v1/runs/{run}/attempts/heartbeat", "An attempt is alive", tag="attempts",
        parameters=(RUN, TENANT), body=HEARTBEAT, answers=(Answer(200, AttemptBody, "Noted."),), errors=ON_ATTEMPT,
    )  # fmt: skip
    async def heartbeat(self, request: ApiRequest) -> Reply:
        run = await self._visible(request)
        body = await HEARTBEAT.read(request)
        await self._attempts.heartbeat(call_of(body.key, run), body.attempt)
        return Reply(200, views.attempt(body.key, body.attempt))

    @route(
        "spend", "POST", "/v1/runs/{run}/attempts/spend", "What an attempt used up so far, in all", tag="attempts",
        parameters=(RUN, TENANT), body=SPEND, answers=(Answer(200, AttemptBody, "Noted."),), errors=ON_ATTEMPT,
    )  # fmt: skip
    async def spend(self, request: ApiRequest) -> Reply:
        run = await self._visible(request)
        body = await SPEND.read(request)
        so_far = Amount(usd_micros=micros(body.usd), tokens=body.tokens)
        await self._attempts.spend(call_of(body.key, run), body.attempt, so_far)
        return Reply(200, views.attempt(body.key, body.attempt))


def _effect_of(request: ApiRequest) -> tuple[str, str]:
    """The key and name of an effect. Raises: InvalidQuery, InvalidValue."""
    key, name = request.value(CALL_KEY), request.value(EFFECT_NAME)
    values.encode(name)
    return key, name


def call_of(key: str, run: str) -> CallAddress:
    """The call that a key names. Raises: InvalidValue: not a key, or that of another run."""
    values.encode(key)
    call = CallAddress.parse(key)
    if call.run != run:
        raise InvalidValue(f"the key is of run {call.run}, the path of run {run}")
    return call
