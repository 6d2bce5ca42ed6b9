"""What every store refuses, so that all say the same, and what a filter by attributes means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Append


def check_batch(batch: Sequence[Append]) -> None:
    """Raises ValueError: a run twice, or a letter to a neighbour; InvalidValue: rows that no database could hold."""
    runs = {item.run for item in batch}
    if len(runs) != len(batch):
        raise ValueError("a run appears once in a batch")
    for item in batch:
        if item.letter is not None and item.letter.run in runs:
            raise ValueError(f"the letter of {item.run} goes to {item.letter.run}, which is in the same batch")
        for task in item.tasks:
            check_text(task.id, task.call, task.status, task.question, task.assignee or "")
            check_json(task.detail)
        check_text(*(notice.id for notice in item.notices))
        check_json(*(notice.body for notice in item.notices))
        check_text(*(spent.tranche for spent in item.reservations))


def check_text(*texts: str) -> None:
    """Refuse what a database could not hold as text, so that every store says the same.

    Raises:
        InvalidValue.
    """
    for text in texts:
        values.encode(text)


def check_json(*texts: bytes) -> None:
    """Refuse what a database could not hold as JSON.

    Raises:
        InvalidValue.
    """
    for text in texts:
        try:
            msgspec.json.decode(text)
            text.decode()
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidValue(f"this is not JSON: {error}") from error


def holds(attributes: str, wanted: str) -> bool:
    """`contains`, of JSON texts."""
    return contains(msgspec.json.decode(attributes), msgspec.json.decode(wanted))


def contains(value: Any, wanted: Any) -> bool:
    """JSON containment: objects by their keys, arrays by their elements in any order, the rest by value."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], item) for key, item in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(any(contains(have, item) for have in value) for item in wanted)
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    return bool(value == wanted)
