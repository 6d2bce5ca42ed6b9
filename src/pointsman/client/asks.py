"""What each verb on runs asks of the API: a request, and the type of its answer. Nothing is sent here. The other verbs
are in `asks_cluster.py`.

A request that is sent twice must be done once, because an answer may be lost: so what begins something carries an id or
a key, made here when none is given. What can't carry one says `repeats=False`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec

from pointsman.api.runs import CancelBody, RedriveBody, StartBody
from pointsman.api.views import (
    AcceptedBody,
    EventBody,
    EventsBody,
    RedrivenBody,
    ResultBody,
    RunBody,
    RunsBody,
    StateBody,
)
from pointsman.client.errors import InvalidArgument
from pointsman.kernel import values
from pointsman.kernel.policy.amounts import Budget

T = TypeVar("T")
Item = TypeVar("Item")
PAGE = 200
EVENTS_PAGE = 500


@dataclass(frozen=True)
class Ask(Generic[T]):
    """A request and the type of its answer.

    Attributes:
        type: of the answer's JSON, T.
        repeats: the request is idempotent and may be sent again.
        wait_s: how long the API may hold the answer back.
        until: when the caller stops waiting, by `time.monotonic`. None: as long as the client's own limit allows.
    """

    type: Any
    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeats: bool = True
    wait_s: float = 0.0
    until: float | None = None


@dataclass(frozen=True)
class Pages(Generic[Item]):
    """A list that comes in pages.

    Attributes:
        ask: the request for the page at a cursor; None: the first page.
        items: the items of a page. next: the cursor of the page after it; None: there is none.
    """

    ask: Callable[[Any], Ask[Any]]
    items: Callable[[Any], Iterable[Item]]
    next: Callable[[Any], Any]


def path(*segments: str) -> str:
    """A path below /v1. Each is one segment, whatever is in it. Raises InvalidArgument: one is empty."""
    for segment in segments:
        if not segment:
            raise InvalidArgument(f"an id or name is empty, in {'/'.join(segments)}")
    return "/v1/" + "/".join(_segment(segment) for segment in segments)


def _segment(typed: str) -> str:
    segment = quote(typed, safe="", errors="surrogateescape")
    return segment if segment.strip(".") else segment.replace(".", "%2E")  # `..` would climb


def without_defaults(body: msgspec.Struct) -> bytes:
    """The body without what stands at its default, so that an older coordinator takes it too."""
    fields = msgspec.structs.fields(body)
    given = {one.name: getattr(body, one.name) for one in fields}
    return msgspec.json.encode({name: value for name, value in given.items() if value not in (None, {}, "", False)})


def encoded(value: Any) -> msgspec.Raw:
    """A value as canonical JSON; a `msgspec.Raw` is JSON already. Raises InvalidValue."""
    return value if isinstance(value, msgspec.Raw) else msgspec.Raw(values.encode(value))


def given_params(**params: Any) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in params.items() if value is not None]


def start(
    workflow: str, input: Any = None, *, id: str | None = None, key: str | None = None,  # noqa: A002  the API's words
    version: int | None = None, tenant: str | None = None, attributes: Mapping[str, Any] | None = None,
    budget: Budget | None = None, wait: float = 0.0,
) -> Ask[RunBody]:  # fmt: skip
    """Start a run durably, or find the one that was started with the same id or key.

    Args:
        input: plain data, a pydantic model, a dataclass, or JSON as `msgspec.Raw`.
        id: the run's id. key: the id is derived from it, so the same key gives the same run. Without both it is a new
            run.
        version: of the workflow; None: the newest.
        attributes: to find the run by: scalars, or lists of scalars.
        wait: seconds to wait for the run's end; it is returned as it is then.

    Raises:
        UnknownWorkflow, InvalidInput, RunConflict (the same id or key with another input), InvalidValue.
    """
    wish = StartBody(workflow, encoded(input), id, version, tenant, dict(attributes or {}), budget)
    given = {name: getattr(wish, name) for name in wish.__struct_fields__ if name != "input"}
    body = msgspec.json.encode({**{k: v for k, v in given.items() if v not in (None, {})}, "input": wish.input})
    headers = {} if id is not None else {"Idempotency-Key": key or secrets.token_hex(16)}
    params = given_params(wait=wait or None)
    return Ask(RunBody, "POST", path("runs"), params, body, headers, wait_s=wait)


def get(run: str) -> Ask[RunBody]:
    """Get one run. Raises UnknownRun."""
    return Ask(RunBody, "GET", path("runs", run))


def state(run: str) -> Ask[StateBody]:
    """Get the typed state of a run (`run.state`) as of its last `run.set`. Raises UnknownRun."""
    return Ask(StateBody, "GET", path("runs", run, "state"))


def result(run: str, wait_s: float, *, until: float | None = None) -> Ask[ResultBody]:
    """The run's outcome, or that it has none yet, after at most `wait_s` seconds."""
    params = given_params(timeout=f"{wait_s:.3f}")
    return Ask(ResultBody, "GET", path("runs", run, "result"), params, wait_s=wait_s, until=until)


def list_runs(
    *, status: Sequence[str] = (), workflow: str | None = None, tenant: str | None = None,
    attributes: Mapping[str, Any] | None = None, page: int = PAGE,
) -> Pages[RunBody]:  # fmt: skip
    """List runs, newest first, fetching pages as they are read.

    Args:
        status: only runs with one of these statuses; all runs if omitted.
        attributes: only runs that have all of these.
        page: how many runs to fetch at a time.
    """
    where = [("status", one) for one in ((status,) if isinstance(status, str) else status)]
    where += given_params(workflow=workflow, tenant=tenant, limit=page)
    where += [("attribute", f"{key}:{values.encode(value).decode()}") for key, value in (attributes or {}).items()]
    return Pages(lambda cursor: Ask(RunsBody, "GET", path("runs"), [*where, *given_params(cursor=cursor)]),
                 lambda got: got.runs, lambda got: got.cursor)  # fmt: skip


def events(run: str, *, after: int = 0, inputs: bool = False, page: int = EVENTS_PAGE) -> Pages[EventBody]:
    """List the run's events so far, after the sequence `after`.

    Args:
        inputs: rebuild inputs that are stored in pieces.

    Raises:
        UnknownRun, NoSuchSequence (the run ended before `after`).
    """
    more = given_params(limit=page, inputs="true" if inputs else None)
    return Pages(
        lambda cursor: Ask(EventsBody, "GET", path("runs", run, "events"), [("after", str(cursor or after)), *more]),
        lambda got: got.events, lambda got: got.next_after,
    )  # fmt: skip


def signal(run: str, name: str, payload: Any = None, *, key: str | None = None) -> Ask[AcceptedBody]:
    """Send a signal to a run. It is durable once this returns. Sent twice under one key, it counts once.

    Raises:
        UnknownRun, RunEnded, DuplicateMail (the key was used with another payload), InvalidValue.
    """
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    return Ask(AcceptedBody, "POST", path("runs", run, "signals", name), (), bytes(encoded(payload)), headers)


def cancel(run: str, *, reason: str = "") -> Ask[AcceptedBody]:
    """Ask a run to stop. Its workflow is told at its next await, and may clean up. Raises UnknownRun, RunEnded."""
    return Ask(AcceptedBody, "POST", path("runs", run, "cancel"), (), without_defaults(CancelBody(reason)))


def release(run: str) -> Ask[RunBody]:
    """Let a quarantined run go on. Raises: UnknownRun, NotQuarantined."""
    return Ask(RunBody, "POST", path("runs", run, "release"), repeats=False)


def redrive(
    run: str, *, sequence: int | None = None, by: str = "", reason: str = "", fresh_key: bool = False,
    dry_run: bool = False,
) -> Ask[RedrivenBody]:  # fmt: skip
    """Let a failed run go on from the call that failed.

    Args:
        sequence: of the run when you saw it fail. With it, the request is idempotent and may be sent again.
        fresh_key: give the failed call another idempotency key; what it did under the old one may be done twice.
        dry_run: return what it would do, and do nothing.

    Raises:
        UnknownRun, NotRedrivable.
    """
    body = RedriveBody(sequence, by, reason, fresh_key, dry_run)
    repeats = sequence is not None or dry_run
    return Ask(RedrivenBody, "POST", path("runs", run, "redrive"), (), without_defaults(body), repeats=repeats)
