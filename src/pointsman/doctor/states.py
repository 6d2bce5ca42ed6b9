"""The typed states of runs: what the table says of them against what their logs say."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.doctor.findings import Finding
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog, UnknownEvent
from pointsman.ports.event_log import EventLog, Head
from pointsman.ports.states import NO_STATE, StateRow, row_at
from pointsman.ports.store import Store

PAGE, PAGE_BYTES = 1_000, 4_000_000
LOOKS_MAX = 5


async def states(store: Store, page: Sequence[Head], with_state: set[str]) -> list[Finding]:
    """Of these runs, those whose row is not what their log says.

    Args:
        with_state: runs whose log speaks of a state.
    """
    there = await store.states.of([head.id for head in page])
    findings = []
    for head in page:
        if head.id not in with_state and head.id not in there:
            continue
        found = await wrong_state(store, head)
        if found is not None:
            findings.append(Finding(
                "state", "problem",
                f"its row in states is not what its log says, which is {described(found[1])}", head.id,
                f"`pointsman doctor --run {head.id} --repair` writes it again from the log, by which the run goes",
                is_repairable=True,
            ))  # fmt: skip
    return findings


async def wrong_state(store: Store, head: Head) -> tuple[Head, StateRow] | None:
    """What the row of a run should say, and the head under which the log says so; None: it says it. Of a log that can't
    be read nothing is said here."""
    for _ in range(LOOKS_MAX):
        try:
            stands = row_at(await read_rows(store.log, head.id, head.base, head.sequence))
        except (CorruptLog, UnknownEvent, KeyError):
            return None
        there = (await store.states.of([head.id])).get(head.id, NO_STATE)
        now = (await store.log.heads([head.id])).get(head.id)
        if now is None or there == stands:
            return None
        if (now.epoch, now.sequence) == (head.epoch, head.sequence):
            return head, stands
        head = now
    return None  # it goes on and on, and each of its steps writes the row


async def read_rows(log: EventLog, run: str, first: int, last: int) -> list[ev.Recorded]:
    """Events `first` to `last` of a run."""
    rows: list[ev.Recorded] = []
    while (left := last - first + 1 - len(rows)) > 0:
        page = await log.read(run, after=first - 1 + len(rows), limit=min(PAGE, left), bytes_max=PAGE_BYTES)
        if not page:
            break
        rows += page
    return rows


def described(state: StateRow) -> str:
    return f"version {state.version}, set by event {state.sequence}" if state.version else "none"
