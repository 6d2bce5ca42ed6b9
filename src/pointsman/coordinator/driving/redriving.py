"""Redrive: a failed run goes on from the call that failed. Any coordinator may carry it out: nobody owns a run that has
ended, and of two redrives the store lets one win.

A child that failed is redriven with its parent. Its next outcome is a new letter; the letter that its parent took in
before is never taken in again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import msgspec

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.task_rows import open_again
from pointsman.coordinator.reading import head_of
from pointsman.kernel import events as ev
from pointsman.kernel.errors import DuplicateMail, NotRedrivable, RunEnded, StoreUnavailable
from pointsman.kernel.events import Recorded
from pointsman.kernel.redriving import Fact, RedrivePlan, facts_of, folded, in_force, plan, redriven
from pointsman.kernel.state import RunState
from pointsman.ports.event_log import ENDED_STATUSES, Append, EventLog, Head, Outcome, chained
from pointsman.ports.runs import Redrive, Redriven
from pointsman.ports.states import row_at

PAGE, PAGE_BYTES = 1_000, 4_000_000
RETRY_S = 0.1

INSTEAD = {
    "running": "it goes on already",
    "parked": "it goes on already",
    "completed": "it has its result",
    "cancelled": "somebody asked it to stop: start it again",
    "stopped": "deploy code that fits its log, and it goes on",
    "quarantined": "`pointsman doctor` says why, and what to do",
}

logger = logging.getLogger("pointsman.coordinator")


class _Found(msgspec.Struct):
    """A failed run, and where it would go on. `children`: the sequences of the children that are redriven with it."""

    head: Head
    rows: list[Recorded]
    plan: RedrivePlan
    children: dict[str, int]


async def look(log: EventLog, run: str) -> Redriven:
    """Find out what a redrive of this run would do.

    Raises:
        UnknownRun, NotRedrivable, CorruptLog, StoreUnavailable.
    """
    return _answer(await _find(log, await head_of(log, run)))


async def redrive(crew: Crew, wish: Redrive) -> Redriven:
    """Let a failed run go on. Raises what `look` raises."""
    log = crew.store.log
    sequence = wish.sequence
    while True:
        head = await head_of(log, wish.run)
        sequence = head.sequence if sequence is None else sequence
        if head.sequence != sequence:
            return await _before(log, head, sequence)
        found = await _find(log, head)
        if await _carry_out(crew, found, by=wish.by, reason=wish.reason, has_fresh_key=wish.has_fresh_key):
            return _answer(found)
        # Somebody else was faster, or retention has just deleted a child of it: look again.


async def revive_children(crew: Crew, parent: RunState) -> None:
    """Make the children that a redriven run waits for report their outcome anew. Idempotent, so it is done whenever the
    run is brought back.
    """
    for call, sequence in dict(parent.revived).items():
        is_done = False
        while not is_done:
            try:
                is_done = await _revive(crew, parent, parent.children[call], sequence)
            except StoreUnavailable:
                await asyncio.sleep(RETRY_S)


async def _revive(crew: Crew, parent: RunState, child: str, sequence: int) -> bool:
    """Revive one child. Returns False if it moved at that moment; look again."""
    head = await head_of(crew.store.log, child)
    if head.status == "failed" and head.sequence == sequence:
        try:
            found = await _find(crew.store.log, head)
        except NotRedrivable as error:
            then = await head_of(crew.store.log, child)
            if (then.status, then.sequence) != (head.status, head.sequence):
                return False
            # A child of its own was redriven alone since, and cancelled. It will never say another word.
            logger.warning("run %s: the failure of its child stands: %s", parent.run, error)
            await _say_again(crew, head, f":stands:{parent.redrives}")
            return True
        why = f"its parent {parent.run} was redriven"
        return await _carry_out(crew, found, by="pointsman", reason=why, has_fresh_key=False)
    if head.status in ENDED_STATUSES:  # it ended while its parent had ended too, and nobody heard of it
        await _say_again(crew, head)
    return True


async def _say_again(crew: Crew, child: Head, mark: str = "") -> None:
    """Send a child's outcome to its parent once more. `mark`: makes the letter differ from the one that its parent took
    in before.
    """
    facts = in_force(facts_of(await _read(crew.store.log, child)))
    letter = mails.letter_to_parent(folded(child.id, facts), facts[-1].event)
    assert letter is not None
    with suppress(DuplicateMail, RunEnded):
        await crew.store.mailbox.post(letter.run, letter.key + mark, letter.kind, letter.body)


async def _find(log: EventLog, head: Head) -> _Found:
    if head.status != "failed":
        raise NotRedrivable(f"run {head.id} is {head.status}, not failed: {INSTEAD[head.status]}")
    rows = await _read(log, head)
    found = plan(head.id, facts_of(rows))
    return _Found(head, rows, found, await _children(log, head, found))


async def _children(log: EventLog, head: Head, found: RedrivePlan) -> dict[str, int]:
    """Which children go on with their parent. Raises NotRedrivable: one can't, or a child of its own."""
    waited = {**found.open_children, **found.failed_children}
    heads = await log.heads(list(waited.values()))
    children: dict[str, int] = {}
    for call, child in waited.items():
        there = heads.get(child)
        if there is None or there.status == "cancelled" or (call in found.open_children and there.ended_at is None):
            what = "is gone" if there is None else "was asked to stop"
            raise NotRedrivable(
                f"run {head.id} can't go on: its child {child} {what} when it failed, and a cancelled run is not "
                "redriven: start it again"
            )
        if there.status == "failed":
            await _find(log, there)  # else its parent would be brought back, and then wait for it in vain
        children[call] = there.sequence if there.status == "failed" else 0
    return children


async def _carry_out(crew: Crew, found: _Found, *, by: str, reason: str, has_fresh_key: bool) -> bool:
    """Append the redrive, fenced. Returns False if somebody else was faster."""
    head = found.head
    event = redriven(found.plan, found.children, by=by, reason=reason, has_fresh_key=has_fresh_key)
    now = max(crew.store.clock.now(), found.rows[-1].at)
    body = ev.encode_event(event)
    facts = [*facts_of(found.rows), Fact(head.sequence + 1, now, event)]
    tasks, notices = open_again(
        folded(head.id, in_force(facts)), found.plan.questions, now, has_webhook=crew.on_notice is not None
    )
    append = Append(
        run=head.id, epoch=head.epoch, expected=head.sequence, nonce=crew.ids.nonce(), redrives=True,
        events=[chained(
            found.rows[-1].checksum, head.sequence + 1, head.epoch + 1,
            type="RunRedriven", version=event.VERSION, at=now, body=body,
        )],
        status="running", owner=None, folded=head.folded, wake_at=now,
        tasks=tasks, notices=notices,
    )  # fmt: skip
    if any(row.type == "StateSet" for row in found.rows):  # some of them may be void from now on
        rows = [*found.rows, Recorded(head.sequence + 1, now, "RunRedriven", event.VERSION, body)]
        append.state = row_at(rows)
    result = await crew.recorder.append([append])
    if result.outcome is not Outcome.MOVED:
        return False
    crew.stats.runs_redriven += 1
    logger.info("run %s: redriven from event %d, calls %s", head.id, event.after, ", ".join(event.calls) or "none")
    crew.on_due(head.id)
    return True


async def _before(log: EventLog, head: Head, sequence: int) -> Redriven:
    """The failure at `sequence` is no longer the run's last word: was it redriven? Raises NotRedrivable."""
    rows = await log.read(head.id, after=sequence, limit=1)
    event = facts_of(rows)[0].event if rows else None
    if not isinstance(event, ev.RunRedriven):
        raise NotRedrivable(f"run {head.id} did not fail at event {sequence}; it is {head.status}, at {head.sequence}")
    return Redriven(head.id, event.number, event.after, event.calls, repeated=True, by=event.by)


def _answer(found: _Found) -> Redriven:
    failed = found.plan.failed
    failure = getattr(failed, "failure", None)
    return Redriven(found.head.id, found.plan.number, found.plan.after, found.plan.calls, failure=failure)


async def _read(log: EventLog, head: Head) -> list[Recorded]:
    """Read the run's last generation up to where its head was; somebody may have redriven it meanwhile."""
    rows: list[Recorded] = []
    after = head.base - 1
    while (left := head.sequence - after - len(rows)) > 0:
        page = await log.read(head.id, after=after + len(rows), limit=min(PAGE, left), bytes_max=PAGE_BYTES)
        if not page:
            break
        rows += page
    return rows
