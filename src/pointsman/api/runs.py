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
from pointsman.api.body import check_depth, decode_body
from pointsman.api.errors import InvalidBody, InvalidQuery, TenantMismatch
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest, checked_id
from pointsman.api.waiting import Waiting
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue, RunConflict, UnknownRun
from pointsman.kernel.policy.amounts import Budget
from pointsman.ports.event_log import ENDED_STATUSES, OPEN_STATUSES, RunFilter
from pointsman.ports.runs import Redrive, Runs, RunView, StartRun

RUN_ID_HEADER = b"pointsman-run-id"
TENANT_HEADER = b"pointsman-tenant"
ATTRIBUTES_MAX = 32
ATTRIBUTE_KEY_CHARS_MAX = 64
SEQUENCE_MAX = 2**53
_VERSION_MAX = 2**31 - 1

_SCALAR = (str, int, float, bool, type(None))


class StartBody(msgspec.Struct, forbid_unknown_fields=True):
    workflow: str
    input: msgspec.Raw
    id: str | None = None
    version: Annotated[int, Meta(ge=1, le=_VERSION_MAX)] | None = None
    tenant: str | None = None
    attributes: dict[str, Any] = {}
    budget: Budget | None = None


class CancelBody(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class RedriveBody(msgspec.Struct, forbid_unknown_fields=True):
    sequence: Annotated[int, Meta(ge=1, le=SEQUENCE_MAX)] | None = None
    by: Annotated[str, Meta(max_length=128)] = ""
    reason: Annotated[str, Meta(max_length=1_000)] = ""
    fresh_key: bool = False
    dry_run: bool = False


_start_decoder = msgspec.json.Decoder(StartBody)
_cancel_decoder = msgspec.json.Decoder(CancelBody)
_redrive_decoder = msgspec.json.Decoder(RedriveBody)


class RunRoutes:
    """Handlers over a coordinator's `Runs`."""

    def __init__(self, runs: Runs, waiting: Waiting) -> None:
        self._runs = runs
        self._waiting = waiting

    async def start(self, request: ApiRequest) -> Reply:
        query = request.query("wait")
        wait_s = query.seconds("wait", 0.0, high=request.settings.wait_max_s)
        wish = await _start_wish(request)
        started = await self._runs.start(wish)
        view = started.view
        if view.head.tenant != wish.tenant:
            raise RunConflict
        if wait_s > 0 and not views.has_ended(view):
            view = await self._wait(request, view.head.id, wait_s)
        location = (b"location", b"/v1/runs/" + view.head.id.encode())
        return Reply(201 if started.created else 200, views.run(view), (location,))

    async def get(self, request: ApiRequest) -> Reply:
        request.query()
        return Reply(200, views.run(self._of_tenant(request, await self._runs.get(request.id("run")))))

    async def result(self, request: ApiRequest) -> Reply:
        settings = request.settings
        timeout_s = request.query("timeout").seconds("timeout", settings.wait_default_s, high=settings.wait_max_s)
        run = await self.visible(request)
        view = await self._wait(request, run, timeout_s)
        return Reply(200 if views.has_ended(view) else 202, views.result(view))

    async def list(self, request: ApiRequest) -> Reply:
        settings = request.settings
        query = request.query("workflow", "tenant", "limit", "cursor", repeatable=("status", "attribute"))
        limit = query.integer("limit", settings.page_limit_default, low=1, high=settings.page_limit_max)
        where = RunFilter(
            status=_statuses(query.all("status")),
            workflow=optional_id(query.text("workflow"), "workflow"),
            tenant=same_tenant(request, query.text("tenant")),
            attributes=_attribute_filter(query.all("attribute")),
        )
        heads, cursor = await self._runs.list(where, limit=limit, cursor=query.text("cursor"))
        return Reply(200, views.runs(heads, cursor))

    async def events(self, request: ApiRequest) -> Reply:
        settings = request.settings
        query = request.query("after", "limit", "inputs")
        after = query.integer("after", 0, low=0, high=SEQUENCE_MAX)
        limit = query.integer("limit", settings.page_limit_default, low=1, high=settings.page_limit_max)
        run = await self.visible(request)
        page = await self._runs.events(run, after=after, limit=limit, inputs=query.flag("inputs"))
        return Reply(200, views.events(page, limit))

    async def signal(self, request: ApiRequest) -> Reply:
        request.query()
        run, name = await self.visible(request), request.id("name")
        key = request.key() or secrets.token_hex(16)
        payload = await request.body() or b"null"
        check_depth(payload, request.settings.json_depth_max)
        accepted = await self._runs.signal(run, name, payload, key=key)
        return Reply(200 if accepted.repeated else 202, views.accepted(accepted))

    async def cancel(self, request: ApiRequest) -> Reply:
        request.query()
        run = await self.visible(request)
        body = await request.body()
        reason = decode_body(body, _cancel_decoder, CancelBody.__struct_fields__).reason if body else ""
        _check_faithful(reason)
        accepted = await self._runs.cancel(run, reason=reason)
        return Reply(200 if accepted.repeated else 202, views.accepted(accepted))

    async def release(self, request: ApiRequest) -> Reply:
        request.query()
        return Reply(200, views.run(await self._runs.release(await self.visible(request))))

    async def redrive(self, request: ApiRequest) -> Reply:
        request.query()
        run = await self.visible(request)
        raw = await request.body()
        body = decode_body(raw, _redrive_decoder, RedriveBody.__struct_fields__) if raw else RedriveBody()
        _check_faithful([body.by, body.reason])
        if body.dry_run:
            return Reply(200, views.redriven(await self._runs.redrive_plan(run)))
        wish = Redrive(run, body.sequence, by=body.by, reason=body.reason, has_fresh_key=body.fresh_key)
        done = await self._runs.redrive(wish)
        return Reply(200 if done.repeated else 202, views.redriven(done))

    async def visible(self, request: ApiRequest) -> str:
        """The run's id, once it is sure that the tenant that the caller speaks for may see it.

        Raises: InvalidId, UnknownRun (another tenant's run does not exist for this one).
        """
        run = request.id("run")
        if TENANT_HEADER in request.headers:
            self._of_tenant(request, await self._runs.get(run))
        return run

    def _of_tenant(self, request: ApiRequest, view: RunView) -> RunView:
        tenant = request.id_header(TENANT_HEADER)
        if tenant is not None and view.head.tenant != tenant:
            raise UnknownRun
        return view

    async def _wait(self, request: ApiRequest, run: str, timeout_s: float) -> RunView:
        with self._waiting.here(request.scope):
            return await self._runs.wait(run, timeout_s=timeout_s)


async def _start_wish(request: ApiRequest) -> StartRun:
    raw = await request.body()
    check_depth(raw, request.settings.json_depth_max + 1)  # the body itself is one level
    body = decode_body(raw, _start_decoder, StartBody.__struct_fields__)
    tenant = same_tenant(request, body.tenant) or "default"
    _check_attributes(body.attributes)
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
    """The body's id, else the router's, else one that the idempotency key decides: the same on every
    coordinator."""
    from_header, key = request.id_header(RUN_ID_HEADER), request.key()
    if from_body is not None:
        return checked_id(from_body, "id")
    if from_header is not None:
        return from_header
    if key is not None:
        return "idem-" + hashlib.sha256(f"{tenant}\0{key}".encode()).hexdigest()[:32]
    return None


def same_tenant(request: ApiRequest, said: str | None) -> str | None:
    """The tenant that header and body (or query) agree on. The header may be a gateway's, so nothing
    overrides it."""
    header = request.id_header(TENANT_HEADER)
    if said is None:
        return header
    if header is not None and header != said:
        raise TenantMismatch
    return checked_id(said, "tenant")


def optional_id(text: str | None, what: str) -> str | None:
    return None if text is None else checked_id(text, what)


def _statuses(asked: list[str]) -> tuple[str, ...]:
    known = OPEN_STATUSES + ENDED_STATUSES
    for status in asked:
        if status not in known:
            raise InvalidQuery(f"status {status!r} is none of {', '.join(known)}")
    return tuple(asked)


def _attribute_filter(asked: list[str]) -> dict[str, Any]:
    """`key:value`, the value as JSON, or as a string where it is not JSON."""
    attributes: dict[str, Any] = {}
    for item in asked:
        key, colon, text = item.partition(":")
        if not colon or key in attributes:
            raise InvalidQuery("attribute is key:value, each key once")
        try:
            value = values.decode(text)
        except InvalidValue:
            value = text
        attributes[key] = value
    _check_attributes(attributes)
    return attributes


def _check_attributes(attributes: dict[str, Any]) -> None:
    """Raises: InvalidBody (not flat, or too many), InvalidValue (not to be stored faithfully)."""
    if not attributes:
        return
    if len(attributes) > ATTRIBUTES_MAX:
        raise InvalidBody(f"{len(attributes)} attributes; the limit is {ATTRIBUTES_MAX}")
    for key, value in attributes.items():
        if not 1 <= len(key) <= ATTRIBUTE_KEY_CHARS_MAX:
            raise InvalidBody(f"an attribute's key has 1 to {ATTRIBUTE_KEY_CHARS_MAX} characters")
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, _SCALAR) for item in items):
            raise InvalidBody(f"attribute {key!r} is not a scalar or a list of scalars")
    _check_faithful(attributes)


def _check_faithful(value: Any) -> None:
    """Refuse what the kernel's canonical form refuses. Raises: InvalidValue."""
    values.encode(value)
