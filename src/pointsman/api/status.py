"""The routes on the coordinator itself: what it is, its health, its metrics, and the description of its API.

Must not know where any of this comes from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.api import views
from pointsman.api.errors import NotReady
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.waiting import Waiting
from pointsman.ports.runs import Status

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class AliveBody(msgspec.Struct):
    status: str


class ReadyBody(msgspec.Struct):
    ready: bool
    reason: str


class StatusRoutes:
    """Handlers over a coordinator's `Status`.

    Args:
        document: returns the OpenAPI document, as JSON.
    """

    def __init__(self, status: Status, waiting: Waiting, document: Callable[[], bytes]) -> None:
        self._status = status
        self._waiting = waiting
        self._document = document

    @route(
        "get_coordinator", "GET", "/v1/coordinator", "Name, incarnation, versions, hash seed, effective limits",
        tag="coordinator",
        answers=(Answer(200, dict[str, Any], "What this coordinator is."),),
    )  # fmt: skip
    async def coordinator(self, _request: ApiRequest) -> Reply:
        return Reply(200, views.encode(self._status.describe()))

    @route(
        "get_health", "GET", "/health", "Is the process alive?", tag="coordinator", public=True,
        answers=(Answer(200, AliveBody, "It is."),),
    )  # fmt: skip
    async def health(self, _request: ApiRequest) -> Reply:
        return Reply(200, views.encode(AliveBody("alive")))

    @route(
        "get_ready", "GET", "/ready", "Does it take work?", tag="coordinator", public=True,
        answers=(Answer(200, ReadyBody, "It does."),), errors=(NotReady,),
    )  # fmt: skip
    async def ready(self, _request: ApiRequest) -> Reply:
        ready, reason = self._status.is_ready()
        if self._waiting.stopping.is_set():
            ready, reason = False, "the coordinator is leaving"
        if not ready:
            raise NotReady(reason)
        return Reply(200, views.encode(ReadyBody(ready, reason)))

    @route(
        "get_metrics", "GET", "/metrics", "Its metrics, for Prometheus", tag="coordinator",
        answers=(Answer(200, str, "Prometheus text.", media=METRICS_TYPE),),
    )  # fmt: skip
    async def metrics(self, _request: ApiRequest) -> Reply:
        return Reply(200, self._status.metrics().encode(), media_type=METRICS_TYPE.encode())

    @route(
        "get_openapi", "GET", "/openapi.json", "This API as an OpenAPI 3.1 document", tag="coordinator",
        answers=(Answer(200, dict[str, Any], "The document."),),
    )  # fmt: skip
    async def openapi(self, _request: ApiRequest) -> Reply:
        return Reply(200, self._document())
