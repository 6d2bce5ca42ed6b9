"""The routes of workers: where the coordinators are, a poll for calls, a result, a good-bye.

A poll is for one coordinator, which `Pointsman-Coordinator` names by its address; a router sends it there, and another
coordinator refuses it. Must not know where calls wait, nor who owns a run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pointsman.api.agents import refuse_tenant
from pointsman.api.attempts import ON_ATTEMPT, Number, call_of
from pointsman.api.body import JsonBody
from pointsman.api.errors import ClusterOnly, InvalidBody
from pointsman.api.parameters import RUN, TENANT, PathId, Seconds, Text
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.views import Anything, encode
from pointsman.api.views_agents import AttemptBody
from pointsman.api.views_agents import attempt as attempt_view
from pointsman.kernel import values
from pointsman.kernel.events import Emission
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS
from pointsman.kernel.policy.retry import SECONDS_MAX
from pointsman.ports.workers import (
    AttemptResult,
    CoordinatorAddress,
    Handed,
    OtherCoordinator,
    Poll,
    StalePoll,
    WorkerFailure,
    Workers,
    WorkerView,
)

WORKER = PathId("worker", "The worker's id; another for each process.")
COORDINATOR = Text(
    "Pointsman-Coordinator",
    "The address of the coordinator that this is for. A router sends it there; another coordinator refuses it.",
    place="header",
)
WAIT = Seconds("wait", "How long to wait for calls.", high="wait_max_s", default="wait_default_s")


class FailureBody(msgspec.Struct, forbid_unknown_fields=True):
    kind: Annotated[str, Meta(min_length=1, max_length=64)]
    message: str = ""
    retryable: bool | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=SECONDS_MAX)] | None = None


class EmittedBody(msgspec.Struct, forbid_unknown_fields=True):
    event: str
    data: Anything | UnsetType = UNSET


class FinishBody(msgspec.Struct, forbid_unknown_fields=True):
    """`output` or `failure`. `usd` and `tokens`: what the attempt used up in all."""

    key: str
    attempt: Number
    output: Anything | UnsetType = UNSET
    failure: FailureBody | None = None
    usd: Annotated[float, Meta(ge=0, le=COUNT_MAX / MICROS)] | None = None
    tokens: Annotated[int, Meta(ge=0, le=COUNT_MAX)] | None = None
    emitted: tuple[EmittedBody, ...] = ()


class WorkerLeftBody(msgspec.Struct):
    worker: str
    was_known: bool


class CoordinatorsBody(msgspec.Struct):
    coordinators: list[CoordinatorAddress]


class WorkersBody(msgspec.Struct):
    workers: list[WorkerView]


POLL = JsonBody(Poll)
FINISH = JsonBody(FinishBody)

Here = Callable[[Any], AbstractContextManager[None]]


class WorkerRoutes:
    """Handlers over a coordinator's `Workers`.

    Args:
        visible: returns the run's id in a request, if the request's tenant may see that run.
        here: put around a wait, with the request's scope: ends it when the client goes or the server stops.
    """

    def __init__(self, workers: Workers, visible: Callable[[ApiRequest], Awaitable[str]], here: Here) -> None:
        self._workers = workers
        self._visible = visible
        self._here = here

    @route(
        "list_coordinators", "GET", "/v1/coordinators", "The coordinators that live, each of which a worker polls",
        tag="workers", parameters=(TENANT,), errors=(ClusterOnly,),
        answers=(Answer(200, CoordinatorsBody, "All that have an address."),),
    )  # fmt: skip
    async def coordinators(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, encode(CoordinatorsBody(list(await self._workers.coordinators()))))

    @route(
        "list_workers", "GET", "/v1/workers", "The workers that come to this coordinator", tag="workers",
        parameters=(TENANT,), errors=(ClusterOnly,), answers=(Answer(200, WorkersBody, "All that it knows."),),
    )  # fmt: skip
    async def workers(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        return Reply(200, encode(WorkersBody(list(self._workers.workers()))))

    @route(
        "poll", "POST", "/v1/workers/{worker}/poll", "Wait for calls", tag="workers",
        parameters=(WORKER, COORDINATOR, WAIT, TENANT), body=POLL,
        answers=(Answer(200, Handed, "Calls to make, perhaps none, and what nobody waits for any more."),),
        errors=(ClusterOnly, OtherCoordinator, StalePoll),
    )  # fmt: skip
    async def poll(self, request: ApiRequest) -> Reply:
        wait_s = request.value(WAIT)
        refuse_tenant(request)
        self._check_here(request)
        worker = request.value(WORKER)
        poll = await POLL.read(request)
        with self._here(request.scope):
            handed = await self._workers.poll(worker, poll, wait_s)
        return Reply(200, encode(handed))

    @route(
        "leave_worker", "DELETE", "/v1/workers/{worker}", "A worker leaves", tag="workers",
        parameters=(WORKER, COORDINATOR, TENANT), errors=(ClusterOnly, OtherCoordinator),
        answers=(Answer(200, WorkerLeftBody, "What it held waits again."),),
    )  # fmt: skip
    async def leave(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        self._check_here(request)
        worker = request.value(WORKER)
        return Reply(200, encode(WorkerLeftBody(worker, self._workers.leave(worker))))

    @route(
        "finish", "POST", "/v1/runs/{run}/attempts/finish", "The result of an attempt, from a worker", tag="workers",
        parameters=(RUN, COORDINATOR, TENANT), body=FINISH, errors=ON_ATTEMPT,
        answers=(Answer(200, AttemptBody, "The owner of the run has it."),),
    )  # fmt: skip
    async def finish(self, request: ApiRequest) -> Reply:
        run = await self._visible(request)
        body = await FINISH.read(request)
        said = body.failure
        if (body.output is UNSET) is (said is None):
            raise InvalidBody("a result has an output or a failure, and not both")
        failure = None
        if said is not None:
            values.encode([said.kind, said.message])
            failure = WorkerFailure(said.kind, said.message, said.retryable, said.retry_after_s)
        emitted = tuple(Emission(one.event, msgspec.Raw(_json(one.data))) for one in body.emitted)
        result = AttemptResult(_json(body.output), failure, body.usd, body.tokens, emitted)
        await self._workers.finish(call_of(body.key, run), body.attempt, result)
        return Reply(200, attempt_view(body.key, body.attempt))

    def _check_here(self, request: ApiRequest) -> None:
        """Check that the request is meant for this coordinator. Raises: OtherCoordinator."""
        wanted = request.value(COORDINATOR)
        if wanted is not None and wanted != self._workers.address:
            raise OtherCoordinator


def _json(said: msgspec.Raw | UnsetType) -> bytes:
    return b"null" if isinstance(said, UnsetType) else bytes(said)
