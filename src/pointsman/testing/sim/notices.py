"""Whom a webhook tells of human tasks is told of each, and of nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pointsman.kernel import events as ev
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.testing.sim.evidence import Evidence

KINDS = {
    ev.HumanTaskOpened: "human_task.opened",
    ev.HumanTaskRequested: "human_task.opened",
    ev.HumanTaskEscalated: "human_task.escalated",
    ev.HumanTaskExpired: "human_task.expired",
}


def happened(events: Iterable[ev.Event]) -> Iterator[tuple[str, str]]:
    """What of a run is to be told: kind and task."""
    for event in events:
        if isinstance(event, ev.HumanTaskOpened | ev.HumanTaskRequested | ev.HumanTaskEscalated | ev.HumanTaskExpired):
            yield KINDS[type(event)], event.task


class _About(msgspec.Struct):
    task: str
    run: str


class _Notice(msgspec.Struct):
    type: str
    data: _About


def everyone_is_told(evidence: Evidence) -> Iterator[str]:
    """What opens, escalates or ends a human task is told at least once, always under one id, which is that of nothing
    else; what is in no log is not told."""
    if evidence.told is None:
        return
    ids: dict[tuple[str, str], str] = {}
    of: dict[str, tuple[str, str]] = {}
    runs: dict[tuple[str, str], str] = {}
    for told in evidence.told:
        notice = msgspec.json.decode(told.body, type=_Notice)
        about = notice.type, notice.data.task
        runs[about] = notice.data.run
        if ids.setdefault(about, told.id) != told.id:
            yield f"{notice.data.run}: {about} was told under the ids {ids[about]} and {told.id}"
        elif of.setdefault(told.id, about) != about:
            yield f"{notice.data.run}: {told.id} is the id of {of[told.id]} and of {about}"
    to_tell = {about: run for run in evidence.streams for about in happened(evidence.events(run))}
    for about, run in runs.items():
        if about not in to_tell:
            yield f"{run}: {about} was told, and no event says so"
    if all(head.status in ENDED_STATUSES for head in evidence.heads.values()):
        yield from (f"{run}: {about} was told to nobody" for about, run in to_tell.items() if about not in ids)
