"""Everything about runs but their events: who owns them, who could drive them, their mail, and who is held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pointsman.doctor.findings import Finding, Level
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog, InvalidState, UnknownEvent
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import Head
from pointsman.ports.store import Store

FINDINGS_MAX = 1_000
"""Of one kind; more than that is said in one line."""
ORPHANED_MS_MAX = 60_000
"""A takeover takes a second; what is nobody's for so long has nobody who could."""


async def held_back(store: Store, page: Sequence[Head]) -> list[Finding]:
    """Stopped and quarantined runs, with their reasons."""
    found = [(head, await _last_event(store, head)) for head in page if head.status in ("stopped", "quarantined")]
    return [
        Finding("held", "problem", f"{head.status}{_reason(event)}", head.id, _remedy(head, event))
        for head, event in found
    ]


def _remedy(head: Head, event: ev.Event | None) -> str:
    if head.status == "stopped":
        return "it goes on by itself when code comes that fits its log"
    release = f"`pointsman runs release {head.id}`"
    if isinstance(event, ev.RunStopped) and event.kind == InvalidState.code:
        return (
            "deploy code whose state schema takes it, with a higher state_version and an upcaster (state_upcasters=) "
            f"from the version that it has; then {release}"
        )
    return f"when its cause is gone: {release}"


async def _last_event(store: Store, head: Head) -> ev.Event | None:
    rows = await store.log.read(head.id, after=head.sequence - 1, limit=1)
    try:
        return read_event(rows[0]) if rows else None
    except (CorruptLog, UnknownEvent):
        return None


def _reason(event: ev.Event | None) -> str:
    return f": {event.kind}: {event.message}" if isinstance(event, ev.RunStopped) else ", and its log does not say why"


async def mail(store: Store, runs: Sequence[str] | None) -> list[Finding]:
    counts = await store.inspection.mail_counts(runs=runs, limit=FINDINGS_MAX)
    return _at_most([
        Finding(
            "mail", "problem",
            f"its head counts {count.counted} mails and {count.folded} of them as read, its mailbox holds "
            f"{count.found} unread ones, up to number {count.last}: mail was lost, or it would never park or end",
            count.run, f"`pointsman doctor --run {count.run} --repair` counts them again", is_repairable=True,
        )
        for count in counts
    ])  # fmt: skip


async def owners(store: Store, runs: Sequence[str] | None) -> list[Finding]:
    """Runs that nobody alive owns for long."""
    orphans = await store.inspection.orphans(runs=runs, limit=FINDINGS_MAX)
    return _at_most([
        Finding(
            "owner", "problem", _abandoned(orphan.owner, orphan.ended_ms_ago), orphan.run,
            "start a coordinator that has its workflow's version: it claims the run within a second",
        )
        for orphan in orphans
        if orphan.ended_ms_ago is None or orphan.ended_ms_ago > ORPHANED_MS_MAX
    ])  # fmt: skip


def _abandoned(owner: int, ended_ms_ago: int | None) -> str:
    if ended_ms_ago is None:
        return f"its owner is incarnation {owner}, which was never registered"
    return f"its owner, incarnation {owner}, ended {ended_ms_ago // 1000} s ago, and nobody has taken it over"


async def stranded(store: Store, named: Mapping[str, Head] | None) -> list[Finding]:
    """Workflow versions that open runs need and no living coordinator has."""
    members = await store.liveness.members()
    missing = await store.ownership.stranded([one for member in members for one in member.definitions])
    if named is not None:
        needed = {(head.workflow, head.version) for head in named.values() if head.ended_at is None}
        missing = [one for one in missing if (one.workflow, one.version) in needed]
    # Without any coordinator nothing is stranded: the whole cluster is down, which is another thing.
    level: Level = "problem" if members else "notice"
    return [
        Finding(
            "stranded", level, f"open runs need {one.workflow} v{one.version}, which no living coordinator has",
            remedy="deploy code that has this version beside the newer one",
        )
        for one in missing
    ]  # fmt: skip


async def rows(store: Store) -> list[Finding]:
    strays = await store.inspection.strays(limit=FINDINGS_MAX)
    remedies = {
        "events": "they were moved by hand, or by a restore of a part: put them back into the bucket of their run",
        "mail": "it does no harm, and is nobody's: delete it when you know where it came from",
        "reservations": "they do no harm: retention clears them away, and so does the settling of their tranche",
    }
    return _at_most([
        Finding(
            "rows", "problem" if stray.kind == "events" else "notice",
            f"{stray.rows} rows of {stray.kind} belong to no run: {stray.of}", remedy=remedies[stray.kind],
        )
        for stray in strays
    ])  # fmt: skip


async def database(store: Store) -> list[Finding]:
    return [
        Finding("database", "problem", f"{fact.name} is {fact.value}", remedy=fact.advice)
        for fact in await store.inspection.facts()
        if fact.advice
    ]


def _at_most(findings: list[Finding]) -> list[Finding]:
    if len(findings) < FINDINGS_MAX:
        return findings
    check = findings[0].check
    return [*findings, Finding(check, "notice", f"and more of the kind: only the first {FINDINGS_MAX} are listed")]
