"""The log: every event of every run against its checksum, its head, and what this release knows.

A run that goes on while it is looked at may seem damaged: its head was read before its events. So what seems damaged
is read again, between two looks at its head, before it is said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from pointsman.doctor.findings import Counts, Finding
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import Chain, Damage, beyond
from pointsman.kernel.errors import CorruptLog, UnknownEvent
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import ENDED_STATUSES, EventLog, Head, RunFilter, size_of, was_cut

RUNS_PAGE = 100
EVENTS_FIRST = 100
"""Events of each run that come with the page; most runs have fewer."""
EVENTS_PAGE = 1_000
EVENTS_BYTES = 4_000_000
"""Of bodies in one answer of the store: a hundred runs may have gigabytes."""
LOOKS_MAX = 5
TERMINAL_TYPES = frozenset(kind.__name__ for kind in ev.TERMINAL)


async def heads(log: EventLog, runs: Sequence[str] | None) -> AsyncIterator[list[Head]]:
    """All heads, newest first, or those of `runs`; a page at a time."""
    if runs is not None:
        found = await log.heads(list(runs))
        yield [found[run] for run in runs if run in found]
        return
    cursor: str | None = None
    while True:
        page, cursor = await log.list_runs(RunFilter(), limit=RUNS_PAGE, cursor=cursor)
        yield page
        if cursor is None:
            return


async def look_at_page(log: EventLog, page: Sequence[Head], counts: Counts, with_state: set[str]) -> list[Finding]:
    """What is wrong with the logs of these runs. Those that speak of a typed state are added to `with_state`."""
    firsts = await log.read_many(
        dict.fromkeys((head.id for head in page), 0), limit=EVENTS_FIRST, bytes_max=EVENTS_BYTES
    )
    findings: list[Finding] = []
    size: float = 0
    for head in page:
        counts.runs += 1
        first = firsts.pop(head.id, [])
        size += size_of(first)
        is_last = len(first) < EVENTS_FIRST and size < EVENTS_BYTES
        trouble = await _look(log, head, first, counts, with_state, is_last=is_last)
        if isinstance(trouble, Damage):
            confirmed = await damage_of(log, head.id)
            if confirmed is not None:
                findings.append(_finding(*confirmed, await last_kept(log, head.id, confirmed[1])))
        elif trouble is not None:
            findings.append(trouble)
    return findings


async def damage_of(log: EventLog, run: str) -> tuple[Head, Damage] | None:
    """The first damage of a run's log, and the head under which it was seen, before and after."""
    for _ in range(LOOKS_MAX):
        before = (await log.heads([run])).get(run)
        if before is None:
            return None
        damage = await _damage(log, before)
        after = (await log.heads([run])).get(run)
        if damage is None or after is None:
            return None
        if (before.epoch, before.sequence) == (after.epoch, after.sequence):
            return after, damage
    return None  # it goes on and on: its owner verifies it when it is next read


async def _damage(log: EventLog, head: Head) -> Damage | None:
    chain = Chain(head.id)
    while True:
        page = await log.read(head.id, after=chain.sequence, limit=EVENTS_PAGE, bytes_max=EVENTS_BYTES)
        for row in page:
            damage = beyond(row, head.sequence) or chain.look(row)
            if damage is not None:
                return damage
        if not was_cut(page, EVENTS_PAGE, EVENTS_BYTES):
            return chain.end(head.sequence)


async def _look(
    log: EventLog, head: Head, first: Sequence[ev.Recorded], counts: Counts, with_state: set[str], *, is_last: bool
) -> Damage | Finding | None:
    chain, page = Chain(head.id), first
    while True:
        for row in page:
            counts.events += 1
            if row.type == "StateSet" or (row.type == "RunRestarted" and b'"state":' in row.body):
                with_state.add(head.id)
            damage = beyond(row, head.sequence) or chain.look(row)
            if damage is not None:
                return damage
            finding = _unreadable(head, row, counts)
            if finding is not None:
                return finding
        if is_last:
            return chain.end(head.sequence)
        page = await log.read(head.id, after=chain.sequence, limit=EVENTS_PAGE, bytes_max=EVENTS_BYTES)
        is_last = not was_cut(page, EVENTS_PAGE, EVENTS_BYTES)


def _unreadable(head: Head, row: ev.Recorded, counts: Counts) -> Finding | None:
    today = ev.EVENT_TYPES.get(row.type)
    if today is not None and row.version < today.VERSION:
        name = f"{row.type} v{row.version}"
        counts.old[name] = counts.old.get(name, 0) + 1
    try:
        read_event(row)
    except UnknownEvent as error:
        return Finding(
            "log", "notice" if head.status in ENDED_STATUSES else "problem", str(error), head.id,
            "its checksum is right: nothing is damaged, and the run goes on when a coordinator of that release claims "
            "it",
        )  # fmt: skip
    except CorruptLog as error:
        return Finding(
            "log", "problem", f"{error}; its checksum is right, so it was appended like this", head.id,
            "no code can read it: report it as a bug of whichever release appended it",
        )  # fmt: skip
    return None


async def last_kept(log: EventLog, run: str, damage: Damage) -> int:
    """The last event that a repair leaves. A redrive that is lost would leave the failure before it as the last word of
    a run that is open: nobody could drive it, or redrive it. Without the failure it comes to it again by itself."""
    kept = damage.sequence - 1
    rows = await log.read(run, after=kept - 1, limit=1) if kept > 0 else []
    return kept - 1 if rows and rows[0].type in TERMINAL_TYPES else kept


def _finding(head: Head, damage: Damage, kept: int) -> Finding:
    why_not = why_not_repaired(head, damage)
    remedy = why_not or (
        f"`pointsman doctor --run {head.id} --repair` moves events {kept + 1} to "
        f"{max(head.sequence, damage.sequence)} to the table quarantined_events and lets the run go on from event "
        f"{kept}"
    )
    return Finding("log", "problem", damage.message, head.id, remedy, is_repairable=not why_not)


def why_not_repaired(head: Head, damage: Damage) -> str:
    """Why this damage can't be repaired; empty: it can."""
    if head.status in ENDED_STATUSES:
        return "the run has ended, and is not begun again: what is lost of its log is in a backup, or nowhere"
    if damage.sequence <= 1:
        return "its first event, with its input, is lost: only a backup has it. Start it again under another id"
    return ""
