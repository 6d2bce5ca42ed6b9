"""The rows of read models that an append writes beside its events, as columns of the statement's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.ports.event_log import Append
from pointsman.ports.human_tasks import TaskRow

OPEN: Final = "open"


class Said(msgspec.Struct):
    """Everything that one append says about one task: a statement inserts or updates a row only once."""

    first: TaskRow
    status: str
    closed_at: int | None
    assignee: str | None


def columns(ordered: Sequence[Append]) -> list[Any]:
    """Human tasks, reservations, notices, each with the place of its append in the batch.

    Args:
        ordered: the result of `batch.in_order`.
    """
    tasks = [(n, append.run, said) for n, append in enumerate(ordered, 1) for said in _said(append.tasks)]
    told = [(n, row) for n, append in enumerate(ordered, 1) for row in append.notices]
    spent = [(n, row) for n, append in enumerate(ordered, 1) for row in append.reservations]
    return [
        [n for n, _, _ in tasks],
        [said.first.id for _, _, said in tasks],
        [run for _, run, _ in tasks],
        [said.first.call for _, _, said in tasks],
        [said.status for _, _, said in tasks],
        [said.first.question for _, _, said in tasks],
        [said.first.detail for _, _, said in tasks],
        [said.first.at for _, _, said in tasks],
        [said.closed_at for _, _, said in tasks],
        [said.assignee for _, _, said in tasks],
        [said.first.requested for _, _, said in tasks],
        [n for n, _ in spent],
        [row.tranche for _, row in spent],
        [row.sequence for _, row in spent],
        [n for n, _ in told],
        [row.id for _, row in told],
        [row.at for _, row in told],
        [row.body for _, row in told],
    ]


def states(ordered: Sequence[Append]) -> list[Any]:
    """Typed states of runs, each with the place of its append in the batch."""
    found = [(n, append.run, append.state) for n, append in enumerate(ordered, 1) if append.state is not None]
    return [
        [n for n, _, _ in found],
        [run for _, run, _ in found],
        [state.version for _, _, state in found],
        [state.sequence for _, _, state in found],
        [state.value for _, _, state in found],
    ]


def _said(tasks: Sequence[TaskRow]) -> list[Said]:
    by_id: dict[str, Said] = {}
    for row in tasks:
        closed_at = None if row.status == OPEN else row.at
        known = by_id.get(row.id)
        if known is None:
            by_id[row.id] = Said(row, row.status, closed_at, row.assignee)
            continue
        if row.assignee is not None:
            known.assignee = row.assignee
        if known.status != row.status:
            known.status, known.closed_at = row.status, closed_at
    return list(by_id.values())
