"""The routes on runs: start, get, wait, list, read events, signal, cancel, release, redrive. Each reads, checks, asks
`Runs`, answers.

Must not know how a run is stored or driven, nor who may call (`auth.py`).
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pointsman.api import views
from pointsman.api.attributes import Attributes, check_attributes, read_filter
from pointsman.api.body import AnyBody, JsonBody
from pointsman.api.errors import InvalidBody, TenantMismatch
from pointsman.api.parameters import (
    AFTER,
    CURSOR,
    ID_PATTERN,
    KEY,
    LIMIT,
    RUN,
    SEQUENCE_MAX,
    TENANT,
    TENANT_FILTER,
    Choices,
    Flag,
    Id,
    PathId,
    Seconds,
    Texts,
    checked_id,
)
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.waiting import Waiting
from pointsman.kernel import values
from pointsman.kernel.errors import (
    CorruptLog,
    DuplicateMail,
    InvalidInput,
    InvalidValue,
    NotQuarantined,
    NotRedrivable,
    Overloaded,
    RunConflict,
    RunEnded,
    UnknownRun,
    UnknownWorkflow,
)
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.event_log import ENDED_STATUSES, OPEN_STATUSES, RunFilter
from pointsman.ports.runs import Redrive, Runs, RunView, StartRun

_VERSION_MAX = 2**31 - 1

Name = Annotated[str, Meta(extra_json_schema={"pattern": f"^{ID_PATTERN}$"})]


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    workflow: Name
    input: Annotated[msgspec.Raw, Meta(description="Any JSON; passed on byte for byte.")]
    id: Annotated[Name | None, Meta(description="Starting the same id again is the same run.")] = None
    version: Annotated[int, Meta(ge=1, le=_VERSION_MAX)] | None = None
    tenant: Name | None = None
    attributes: Attributes = {}
    budget: Budget | None = None


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True):
    sequence: Annotated[int, Meta(ge=1, le=SEQUENCE_MAX)] | None = None
    by: Annotated[str, Meta(max_length=128)] = ""
    reason: Annotated[str, Meta(max_length=1_000)] = ""
    fresh_key: bool = False
    dry_run: bool = False


START = JsonBody(StartBody)
PAYLOAD = AnyBody(default=b"null")
CANCEL = JsonBody(CancelBody, default=CancelBody())
REDRIVE = JsonBody(RedriveBody, default=RedriveBody())

RUN_ID = Id("Pointsman-Run-Id", "The run's id, where the body gives none; a router sets it.", place="header")
WAIT = Seconds(
    "wait", "Wait so long for the run's end, and answer with the run as it is then.", high="wait_max_s", default=0
)
TIMEOUT = Seconds("timeout", "Wait so long for the run's end.", high="wait_max_s", default="wait_default_s")
SIGNAL = PathId("name", "The signal's name.")
STATUS = Choices("status", "Only in one of these.", values=OPEN_STATUSES + ENDED_STATUSES)
WORKFLOW = Id("workflow", "Only of this workflow.")
ATTRIBUTE = Texts(
    "attribute",
    "`key:value`: only runs with this attribute. The value is read as JSON, and as text if it is none.",
    pattern=r"^[^:]+:",
)
INPUTS = Flag("inputs", "Rebuild inputs that are stored in pieces.")

LOCATION = (("Location", "The run's path."),)
ON_ONE = (UnknownRun, CorruptLog)
"""Errors of every route on one run."""


class RunRoutes:
    """Handlers over a coordinator's `Runs`."""

    def __init__(self, runs: Runs, waiting: Waiting) -> None:
        self._runs = runs
        self._waiting = waiting

    @route(
        "start_run", "POST", "/v1/runs", "Start a run, or find the one that was started with the same id", tag="runs",
        parameters=(WAIT, TENANT, RUN_ID, KEY), body=START,
        answers=(
            Answer(201, views.RunBody, "It is started, durably.", headers=LOCATION),
            Answer(200, views.RunBody, "It was started before, with the same workflow and input.", headers=LOCATION),
        ),
        errors=(UnknownWorkflow, InvalidInput, RunConflict, TenantMismatch, Overloaded),
        about="The id is the body's, else the header `Pointsman-Run-Id`, else made of `Idempotency-Key`, else chosen.",
    )  # fmt: skip
    async def start(self, request: ApiRequest) -> Reply:
        wait_s = request.value(WAIT)
        wish = await _start_wish(request)
        started = await self._runs.start(wish)
        view = started.view
        if view.head.tenant != wish.tenant:
            raise RunConflict
        if wait_s > 0 and not views.has_ended(view):
            view = await self._wait(request, view.head.id, wait_s)
        location = (b"location", b"/v1/runs/" + view.head.id.encode())
        return Reply(201 if started.created else 200, views.run(view), (location,))

    @route(
        "get_run", "GET", "/v1/runs/{run}", "One run", tag="runs", parameters=(RUN, TENANT),
        answers=(Answer(200, views.RunBody, "The run, with its output or failure once it has ended."),), errors=ON_ONE,
    )  # fmt: skip
    async def get(self, request: ApiRequest) -> Reply:
        return Reply(200, views.run(self._of_tenant(request, await self._runs.get(request.value(RUN)))))

    @route(
        "get_state", "GET", "/v1/runs/{run}/state", "Its typed state", tag="runs", parameters=(RUN, TENANT),
        answers=(Answer(200, views.StateBody, "What it says of itself; null where nothing was set."),), errors=ON_ONE,
    )  # fmt: skip
    async def state(self, request: ApiRequest) -> Reply:
        return Reply(200, views.state(await self._runs.state(await self.visible(request))))

    @route(
        "get_result", "GET", "/v1/runs/{run}/result", "Wait for the run's end", tag="runs",
        parameters=(RUN, TIMEOUT, TENANT), errors=ON_ONE,
        answers=(
            Answer(200, views.ResultBody, "It has ended: its output or failure."),
            Answer(202, views.ResultBody, "It has not; ask again."),
        ),
    )  # fmt: skip
    async def result(self, request: ApiRequest) -> Reply:
        timeout_s = request.value(TIMEOUT)
        run = await self.visible(request)
        view = await self._wait(request, run, timeout_s)
        return Reply(200 if views.has_ended(view) else 202, views.result(view))

    @route(
        "list_runs", "GET", "/v1/runs", "List runs, newest first", tag="runs",
        parameters=(STATUS, WORKFLOW, TENANT_FILTER, ATTRIBUTE, LIMIT, CURSOR, TENANT),
        answers=(Answer(200, views.RunsBody, "A page of runs."),), errors=(TenantMismatch, InvalidValue, InvalidBody),
    )  # fmt: skip
    async def list(self, request: ApiRequest) -> Reply:
        where = RunFilter(
            status=request.value(STATUS),
            workflow=request.value(WORKFLOW),
            tenant=same_tenant(request, request.value(TENANT_FILTER)),
            attributes=read_filter(request.value(ATTRIBUTE)),
        )
        heads, cursor = await self._runs.list(where, limit=request.value(LIMIT), cursor=request.value(CURSOR))
        return Reply(200, views.runs(heads, cursor))

    async def events(self, request: ApiRequest) -> Reply:
        """A page of events; the route is in `events.py`, and can also answer with a stream."""
        limit = request.value(LIMIT)
        after, inputs = request.value(AFTER), request.value(INPUTS)
        bytes_max, run = request.settings.page_bytes_max, await self.visible(request)
        page = await self._runs.events(run, after=after, limit=limit, inputs=inputs, bytes_max=bytes_max)
        return Reply(200, views.events(page, limit, bytes_max))

    @route(
        "signal_run", "POST", "/v1/runs/{run}/signals/{name}", "Send a signal; the body is its payload", tag="runs",
        parameters=(RUN, SIGNAL, KEY, TENANT), body=PAYLOAD, errors=(*ON_ONE, RunEnded, DuplicateMail),
        answers=(
            Answer(202, views.AcceptedBody, "It is in the run's mailbox, durably."),
            Answer(200, views.AcceptedBody, "It was accepted before under this key."),
        ),
    )  # fmt: skip
    async def signal(self, request: ApiRequest) -> Reply:
        run, name = await self.visible(request), request.value(SIGNAL)
        key = request.value(KEY) or secrets.token_hex(16)
        accepted = await self._runs.signal(run, name, await PAYLOAD.read(request), key=key)
        return Reply(200 if accepted.repeated else 202, views.accepted(accepted))

    @route(
        "cancel_run", "POST", "/v1/runs/{run}/cancel", "Ask the run to stop", tag="runs", parameters=(RUN, TENANT),
        body=CANCEL, errors=(*ON_ONE, RunEnded),
        answers=(
            Answer(202, views.AcceptedBody, "It is asked, durably; its workflow may clean up."),
            Answer(200, views.AcceptedBody, "It had been asked before."),
        ),
    )  # fmt: skip
    async def cancel(self, request: ApiRequest) -> Reply:
        run = await self.visible(request)
        reason = (await CANCEL.read(request)).reason
        _check_faithful(reason)
        accepted = await self._runs.cancel(run, reason=reason)
        return Reply(200 if accepted.repeated else 202, views.accepted(accepted))

    @route(
        "release_run", "POST", "/v1/runs/{run}/release", "Let a quarantined run go on", tag="runs",
        parameters=(RUN, TENANT), answers=(Answer(200, views.RunBody, "It is due at once."),),
        errors=(*ON_ONE, NotQuarantined),
    )  # fmt: skip
    async def release(self, request: ApiRequest) -> Reply:
        return Reply(200, views.run(await self._runs.release(await self.visible(request))))

    @route(
        "redrive_run", "POST", "/v1/runs/{run}/redrive", "Let a failed run go on from the call that failed", tag="runs",
        parameters=(RUN, TENANT), body=REDRIVE, errors=(*ON_ONE, NotRedrivable),
        answers=(
            Answer(202, views.RedrivenBody, "It goes on."),
            Answer(200, views.RedrivenBody, "It was redriven before, or this is what a redrive would do."),
        ),
    )  # fmt: skip
    async def redrive(self, request: ApiRequest) -> Reply:
        run = await self.visible(request)
        body = await REDRIVE.read(request)
        _check_faithful([body.by, body.reason])
        if body.dry_run:
            return Reply(200, views.redriven(await self._runs.redrive_plan(run)))
        wish = Redrive(run, body.sequence, by=body.by, reason=body.reason, has_fresh_key=body.fresh_key)
        done = await self._runs.redrive(wish)
        return Reply(200 if done.repeated else 202, views.redriven(done))

    async def visible(self, request: ApiRequest) -> str:
        """The run's id, if the caller's tenant may see the run.

        Raises: InvalidId, UnknownRun (another tenant's run does not exist for this one).
        """
        run = request.value(RUN)
        if request.has(TENANT):
            self._of_tenant(request, await self._runs.get(run))
        return run

    def _of_tenant(self, request: ApiRequest, view: RunView) -> RunView:
        tenant = request.value(TENANT)
        if tenant is not None and view.head.tenant != tenant:
            raise UnknownRun
        return view

    async def _wait(self, request: ApiRequest, run: str, timeout_s: float) -> RunView:
        with self._waiting.here(request.scope):
            return await self._runs.wait(run, timeout_s=timeout_s)


async def _start_wish(request: ApiRequest) -> StartRun:
    body = await START.read(request)
    tenant = same_tenant(request, body.tenant) or "default"
    check_attributes(body.attributes)
    return StartRun(
        workflow=checked_id(body.workflow, "workflow"),
        input=bytes(body.input),
        id=_run_id(request, body.id, tenant),
        version=body.version,
        tenant=tenant,
        attributes=body.attributes,
        budget=body.budget,
    )


def _run_id(request: ApiRequest, from_body: str | None, tenant: str) -> str | None:
    """The id in the body, else the router's, else one derived from the idempotency key, the same on every
    coordinator.
    """
    from_header, key = request.value(RUN_ID), request.value(KEY)
    if from_body is not None:
        return checked_id(from_body, "id")
    if from_header is not None:
        return from_header
    if key is not None:
        return "idem-" + hashlib.sha256(f"{tenant}\0{key}".encode()).hexdigest()[:32]
    return None


def same_tenant(request: ApiRequest, said: str | None) -> str | None:
    """The tenant in the header and the body (or query), which must agree: a gateway may have set the header, so nothing
    overrides it.
    """
    header = request.value(TENANT)
    if said is None:
        return header
    if header is not None and header != said:
        raise TenantMismatch
    return checked_id(said, "tenant")


def _check_faithful(value: Any) -> None:
    """Refuse a value that the kernel's canonical form refuses. Raises: InvalidValue, ValueTooLarge."""
    values.encode(value)
