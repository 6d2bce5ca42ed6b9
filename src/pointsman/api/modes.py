"""The routes on the cluster's mode: show it, set it.

Must not know how it is measured. It belongs to the cluster: a request on behalf of a tenant may not see or set it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pointsman.api.agents import refuse_tenant
from pointsman.api.body import JsonBody
from pointsman.api.errors import ClusterOnly
from pointsman.api.parameters import TENANT
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.views import encode, time
from pointsman.kernel import values
from pointsman.ports.modes import Modes, ModeView


class SetModeBody(msgspec.Struct, forbid_unknown_fields=True):
    """`auto`: what is measured decides."""

    mode: Literal["full", "degraded", "emergency", "auto"]
    by: Annotated[str, Meta(min_length=1, max_length=128)]
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class SignalBody(msgspec.Struct):
    name: str
    value: float
    degraded: float
    emergency: float


class ChangeBody(msgspec.Struct):
    sequence: int
    at: str
    type: str
    data: msgspec.Raw


class ModeBody(msgspec.Struct):
    mode: str
    measured: str
    pinned: str | None
    since: str | None
    cause: str
    by: str
    signals: list[SignalBody]
    changes: list[ChangeBody]


SET = JsonBody(SetModeBody)


class ModeRoutes:
    """Handlers over the cluster's `Modes`."""

    def __init__(self, modes: Modes) -> None:
        self._modes = modes

    @route(
        "get_mode", "GET", "/v1/mode", "The cluster's mode, the signals that decide it, its latest changes", tag="mode",
        parameters=(TENANT,), answers=(Answer(200, ModeBody, "The mode."),), errors=(ClusterOnly,),
    )  # fmt: skip
    async def get(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, _encoded(await self._modes.get()))

    @route(
        "set_mode", "PUT", "/v1/mode", "Pin the mode, or let what is measured decide again", tag="mode",
        parameters=(TENANT,), body=SET, answers=(Answer(200, ModeBody, "It is set."),), errors=(ClusterOnly,),
    )  # fmt: skip
    async def set(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        body = await SET.read(request)
        values.encode([body.mode, body.by, body.reason])
        return Reply(200, _encoded(await self._modes.set(body.mode, by=body.by, reason=body.reason)))


def _encoded(view: ModeView) -> bytes:
    return encode(
        ModeBody(
            mode=view.mode,
            measured=view.measured,
            pinned=view.pinned,
            since=None if view.since is None else time(view.since),
            cause=view.cause,
            by=view.by,
            signals=[SignalBody(s.name, s.value, s.degraded, s.emergency) for s in view.signals],
            changes=[ChangeBody(c.sequence, time(c.at), c.type, c.data) for c in view.changes],
        )
    )
