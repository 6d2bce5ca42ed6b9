"""The JSON of the API: snake_case keys, times as ISO 8601 UTC with milliseconds.

Must not know HTTP. A field is null if it has no value yet, and absent if it does not apply (`output` and `failure` of a
run that has not ended so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pointsman.kernel.events import Failure
from pointsman.ports.event_log import ENDED_STATUSES, OPEN_STATUSES, Head
from pointsman.ports.runs import Accepted, EventView, Redriven, RunView, StateView

encode = msgspec.json.Encoder().encode

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
RunStatus = Annotated[str, Meta(extra_json_schema={"enum": [*OPEN_STATUSES, *ENDED_STATUSES]})]
Anything = Annotated[msgspec.Raw, Meta(description="Any JSON.")]
Stranded = Annotated[str, Meta(description="No living coordinator has its workflow version; what to do.")] | UnsetType


class RunBody(msgspec.Struct):
    id: str
    workflow: str
    version: int
    build: str
    status: RunStatus
    tenant: str
    attributes: Mapping[str, Any]
    sequence: int
    generation: int
    parent: str | None
    epoch: int
    takeovers: int
    created_at: Time
    updated_at: Time
    ended_at: Time | None
    wake_at: Time | None
    output: Anything | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET
    stranded: Stranded = UNSET


class ResultBody(msgspec.Struct):
    id: str
    status: RunStatus
    output: Anything | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET
    stranded: Stranded = UNSET


class StateBody(msgspec.Struct):
    """`version`: of the schema that the workflow declares. `sequence`: of the event that set it."""

    run: str
    version: int | None
    value: Anything
    sequence: int | None


class RunsBody(msgspec.Struct):
    runs: list[RunBody]
    cursor: str | None


class EventBody(msgspec.Struct):
    sequence: int
    at: Time
    type: str
    version: int
    data: Anything
    epoch: int
    damage: str | UnsetType = UNSET


class EventsBody(msgspec.Struct):
    """`next_after` is what to ask for next; null when this was the last event so far."""

    events: list[EventBody]
    next_after: int | None


class AcceptedBody(msgspec.Struct):
    run: str
    key: str
    repeated: bool


class RedrivenBody(msgspec.Struct):
    run: str
    number: int
    after: int
    calls: tuple[str, ...]
    failure: Failure | None
    repeated: bool
    by: str


def time(at_ms: int) -> str:
    """A time like `2026-01-31T12:00:00.123Z`; computed with integers, so that no float loses a millisecond."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"


def has_ended(view: RunView) -> bool:
    return view.head.status in ENDED_STATUSES


def run(view: RunView) -> bytes:
    return encode(_run_body(view.head, *_outcome(view)))


def result(view: RunView) -> bytes:
    return encode(ResultBody(view.head.id, view.head.status, *_outcome(view)))


def state(view: StateView) -> bytes:
    value = msgspec.Raw(b"null") if view.value is None else view.value
    return encode(StateBody(view.run, view.version, value, view.sequence))


def runs(heads: Sequence[Head], cursor: str | None) -> bytes:
    return encode(RunsBody([_run_body(head) for head in heads], cursor))


def events(page: Sequence[EventView], limit: int, bytes_max: int) -> bytes:
    """A page of events. One that is not full, in events or in bytes, is the last."""
    is_full = len(page) >= limit or sum(len(event.data) for event in page) >= bytes_max
    next_after = page[-1].sequence if is_full else None
    return encode(EventsBody([event_body(event) for event in page], next_after))


def event_body(event: EventView) -> EventBody:
    damage = event.damage or UNSET
    return EventBody(event.sequence, time(event.at), event.type, event.version, event.data, event.epoch, damage)


def accepted(what: Accepted) -> bytes:
    return encode(AcceptedBody(what.run, what.key, what.repeated))


def redriven(what: Redriven) -> bytes:
    body = RedrivenBody(what.run, what.number, what.after, what.calls, what.failure, what.repeated, what.by)
    return encode(body)


def _outcome(view: RunView) -> tuple[msgspec.Raw | UnsetType, Failure | UnsetType, str | UnsetType]:
    output = UNSET if view.output is None else view.output
    return output, UNSET if view.failure is None else view.failure, view.stranded or UNSET


def _run_body(
    head: Head, output: msgspec.Raw | UnsetType = UNSET, failure: Failure | UnsetType = UNSET,
    stranded: str | UnsetType = UNSET,
) -> RunBody:  # fmt: skip
    return RunBody(
        id=head.id,
        workflow=head.workflow,
        version=head.version,
        build=head.build,
        status=head.status,
        tenant=head.tenant,
        attributes=head.attributes,
        sequence=head.sequence,
        generation=head.generation,
        parent=head.parent,
        epoch=head.epoch,
        takeovers=head.takeovers,
        created_at=time(head.created_at),
        updated_at=time(head.updated_at),
        ended_at=None if head.ended_at is None else time(head.ended_at),
        wake_at=None if head.wake_at is None else time(head.wake_at),
        output=output,
        failure=failure,
        stranded=stranded,
    )
