"""Repairs of one run: its bad suffix is moved away, or its mail is counted again. Fenced, and nothing is deleted."""

from __future__ import annotations

import msgspec

from pointsman.doctor.states import described, read_rows, wrong_state
from pointsman.doctor.streams import EVENTS_BYTES, EVENTS_PAGE, damage_of, last_kept, why_not_repaired
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import Chain, Damage
from pointsman.kernel.errors import CorruptLog, PointsmanError, UnknownEvent, UnknownRun
from pointsman.kernel.state import RunState
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import Head, chained
from pointsman.ports.inspection import Cut
from pointsman.ports.states import row_at
from pointsman.ports.store import Store

OUTCOMES = (
    ev.CallCompleted,
    ev.CallFailed,
    ev.CallSkipped,
    ev.CallCancelled,
    ev.HumanTaskAnswered,
    ev.HumanTaskExpired,
)


class NotRepairable(PointsmanError):
    """This can't be repaired."""

    code = "not_repairable"
    status = 409


class Repaired(msgspec.Struct, frozen=True):
    """What a repair did. `repeated`: calls that may be made again, each with the idempotency key under which."""

    run: str
    did: list[str]
    repeated: dict[str, str]


class _Kept(msgspec.Struct):
    """What the good events add up to."""

    checksum: int
    folded: int = 0
    generation: int = 1
    redrives: int = 0
    base: int = 1
    has_state: bool = False
    asked: dict[str, None] = {}
    tasks: dict[str, str] = {}
    """Of calls that a person is asked about."""
    keys: dict[str, tuple[str, int]] = {}
    """Of the calls of the last generation, and the sequence at which each was asked for."""

    def key_of(self, run: str, call: str) -> str:
        if call in self.keys:
            return self.keys[call][0]
        return RunState(run, generation=self.generation, redrives=self.redrives).key_of(call)


async def repair(store: Store, run: str, now: int) -> Repaired:
    """Repair what can be repaired of a run; without anything to repair, nothing is done.

    Raises:
        UnknownRun, StoreUnavailable.
        NotRepairable: it can't be, or it moved meanwhile.
    """
    if run not in await store.log.heads([run]):
        raise UnknownRun(f"no run has the id {run!r}")
    found = await damage_of(store.log, run)
    did: list[str] = []
    repeated: dict[str, str] = {}
    if found is not None:
        head, damage = found
        did, repeated = await _cut(store, head, damage, now)
    did += await _restate(store, run)
    counts = await store.inspection.mail_counts(runs=[run], limit=1)
    head = (await store.log.heads([run]))[run]
    if counts and head.ended_at is None:
        if not await store.inspection.recount_mail(run, head.epoch):
            raise NotRepairable(f"run {run} was claimed meanwhile: look at it again")
        did.append(f"its mail was counted again, up to number {counts[0].last}")
    return Repaired(run, did, repeated)


async def _restate(store: Store, run: str) -> list[str]:
    """Write the typed state's row again from the log, where it says something else."""
    found = await wrong_state(store, (await store.log.heads([run]))[run])
    if found is None:
        return []
    head, stands = found
    if not await store.states.rewrite(run, head.epoch, head.sequence, stands):
        raise NotRepairable(f"run {run} moved meanwhile: look at it again")
    return [f"its row in states was written again: {described(stands)}"]


async def _cut(store: Store, head: Head, damage: Damage, now: int) -> tuple[list[str], dict[str, str]]:
    why_not = why_not_repaired(head, damage)
    if why_not:
        raise NotRepairable(f"run {head.id}: {damage.message}; {why_not}")
    kept = await last_kept(store.log, head.id, damage)
    good, last = await _read_kept(store, head.id, kept)
    lost = await _read_lost(store, head.id, kept)
    event = ev.LogRepaired(first=kept + 1, last=max(last, head.sequence), reason=damage.message)
    repaired = chained(
        good.checksum, kept + 1, head.epoch + 1,
        type="LogRepaired", version=event.VERSION, at=now, body=ev.encode_event(event),
    )  # fmt: skip
    state = row_at(await read_rows(store.log, head.id, good.base, kept)) if good.has_state else None
    cut = Cut(head.id, head.epoch, head.sequence, kept, good.folded, repaired, damage.message, state)
    if not await store.inspection.cut(cut):
        raise NotRepairable(f"run {head.id} moved meanwhile: look at it again")
    did = [
        f"events {event.first} to {event.last} were moved to quarantined_events: {damage.message}",
        f"the run goes on from event {kept}",
    ]
    if head.folded > good.folded:
        did.append(f"mail from number {good.folded + 1} on is folded in again")
    calls = dict.fromkeys([*good.asked, *lost])
    return did, {call: good.key_of(head.id, call) for call in calls}


async def _read_kept(store: Store, run: str, kept: int) -> tuple[_Kept, int]:
    """What events 1 to `kept` add up to, and the last sequence that the log has."""
    chain, good = Chain(run), _Kept(0)
    while chain.sequence < kept:
        left = min(EVENTS_PAGE, kept - chain.sequence)
        for row in await store.log.read(run, after=chain.sequence, limit=left, bytes_max=EVENTS_BYTES):
            if chain.look(row) is not None:
                raise NotRepairable(f"run {run} changed meanwhile: look at it again")
            _fold(good, run, row)
    good.checksum = chain.checksum or 0
    last = kept
    while page := await store.log.read(run, after=last, limit=EVENTS_PAGE, bytes_max=EVENTS_BYTES):
        last = page[-1].sequence
    return good, last


def _fold(good: _Kept, run: str, row: ev.Recorded) -> None:
    event = read_event(row)
    if isinstance(event, ev.RunRestarted):
        good.generation, good.redrives, good.base = event.generation, event.redrives, row.sequence
        good.has_state = event.state is not None
        good.asked.clear()
        good.keys.clear()
    elif isinstance(event, ev.RunRedriven):
        _fold_redrive(good, event)
    if isinstance(event, ev.StateSet):
        good.has_state = True
    if isinstance(event, ev.Mailed):
        good.folded = event.mail
    if isinstance(event, ev.CallRequested):
        good.asked[event.call] = None
        good.keys[event.call] = good.key_of(run, event.call), row.sequence
    elif isinstance(event, ev.HumanTaskOpened):
        good.tasks[event.call] = event.task
    elif isinstance(event, OUTCOMES) and getattr(event, "task", None) in (None, good.tasks.get(event.call)):
        good.asked.pop(event.call, None)


def _fold_redrive(good: _Kept, event: ev.RunRedriven) -> None:
    """What was asked for behind its place is void: it is asked for anew, under another key."""
    good.redrives = event.number
    for call in [call for call, (_, sequence) in good.keys.items() if sequence > event.after]:
        del good.keys[call]
        good.asked.pop(call, None)
    for call in event.calls:
        good.tasks.pop(call, None)
        if call in good.keys:
            key, sequence = good.keys[call]
            good.asked[call] = None
            good.keys[call] = f"{key}/r{event.number}" if event.has_fresh_key else key, sequence


async def _read_lost(store: Store, run: str, kept: int) -> list[str]:
    """Calls that the events to be moved away ask for, as far as these can be read: they may have been made."""
    calls: list[str] = []
    after = kept
    while page := await store.log.read(run, after=after, limit=EVENTS_PAGE, bytes_max=EVENTS_BYTES):
        after = page[-1].sequence
        for row in page:
            try:
                event = read_event(row)
            except (CorruptLog, UnknownEvent):
                continue
            if isinstance(event, ev.CallRequested):
                calls.append(event.call)
    return calls
