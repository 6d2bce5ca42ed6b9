"""Read a run's log for display, even if it is damaged: every event that can be read, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.checksum import Chain, Damage
from pointsman.kernel.copies import InputEvent
from pointsman.kernel.errors import CorruptLog, UnknownEvent, UnknownRun
from pointsman.kernel.history import whole_input
from pointsman.kernel.pieces import sources_of, split_body
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import EventLog, Head, was_cut
from pointsman.ports.runs import EventView

PAGE, PAGE_BYTES = 500, 4_000_000
"""Events of a run, and bytes of them, that are read at a time."""
TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999: what a calendar takes."""


def corrupt(run: str, damage: Damage) -> CorruptLog:
    return CorruptLog(f"run {run}: {damage.message}. `pointsman doctor --run {run}` says more, and offers the repair")


async def head_of(log: EventLog, run: str) -> Head:
    """The head of a run. Raises UnknownRun."""
    head = (await log.heads([run])).get(run)
    if head is None:
        raise UnknownRun(f"no run has the id {run!r}")
    return head


async def view_events(
    log: EventLog, run: str, *, after: int, limit: int, inputs: bool, bytes_max: int | None = None
) -> list[EventView]:
    """Events of a run with sequence > `after`, each verified: at most `limit`, ending with the event at which they
    reach `bytes_max` bytes.
    """
    before = max(after, 0)
    size, left = limit + (before > 0), bytes_max
    # The event before the first one asked for is read too: its checksum is what the next chains from.
    rows = await log.read(run, after=max(before - 1, 0), limit=size, bytes_max=left)
    goes_on = was_cut(rows, size, left)
    checksum: int | None = None
    if before > 0 and rows and rows[0].sequence == before:
        checksum = rows.pop(0).checksum
    chain = Chain(run, before, checksum)
    views: list[EventView] = []
    held = 0
    while True:
        for view in await _views(log, run, rows[: limit - len(views)], chain, inputs=inputs):
            views.append(view)
            held += len(view.data)
            if bytes_max is not None and held >= bytes_max:
                return views
        if not goes_on or len(views) >= limit:
            return views
        size, left = limit - len(views), None if bytes_max is None else bytes_max - held
        rows = await log.read(run, after=chain.sequence, limit=size, bytes_max=left)
        goes_on = was_cut(rows, size, left)


async def _views(log: EventLog, run: str, rows: list[ev.Recorded], chain: Chain, *, inputs: bool) -> list[EventView]:
    damages = {row.sequence: damage for row in rows if (damage := chain.look(row)) is not None}
    headers = await _with_inputs(log, run, rows) if inputs else {}
    return [_view(row, damages.get(row.sequence), headers.get(row.sequence)) for row in rows]


async def first_damage(log: EventLog, head: Head) -> Damage | None:
    """The first thing that is wrong with a run's stream; None if nothing is."""
    chain = Chain(head.id)
    while True:
        page = await log.read(head.id, after=chain.sequence, limit=PAGE, bytes_max=PAGE_BYTES)
        for row in page:
            damage = chain.look(row)
            if damage is not None:
                return damage
        if not was_cut(page, PAGE, PAGE_BYTES):
            return chain.end(head.sequence)


async def last_event(log: EventLog, head: Head) -> ev.Event:
    """The last event of a run. Raises CorruptLog, UnknownEvent if it can't be read, or differs from what was
    appended.
    """
    rows = await log.read(head.id, after=max(head.sequence - 2, 0), limit=2)
    chain = Chain(head.id, head.sequence - max(len(rows), 1))
    for row in rows:
        damage = chain.look(row)
        if damage is not None:
            raise corrupt(head.id, damage)
    end = chain.end(head.sequence)
    if end is not None:
        raise corrupt(head.id, end)
    return read_event(rows[-1])


def _view(row: ev.Recorded, damage: Damage | None, header: bytes | None) -> EventView:
    body = header if header is not None else split_body(row.body)[0]
    if damage is None:
        return EventView(row.sequence, row.at, row.type, row.version, msgspec.Raw(body), row.epoch)
    at = min(max(row.at, 0), TIME_MS_MAX)
    shown = body if _is_json(body) else b"null"
    return EventView(row.sequence, at, row.type, row.version, msgspec.Raw(shown), row.epoch, damage.message)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


async def _with_inputs(log: EventLog, run: str, recorded: Sequence[ev.Recorded]) -> dict[int, bytes]:
    """The headers of events whose input stands in pieces, with the whole input, by sequence; as far as it can be
    rebuilt."""
    bodies = {row.sequence: row.body for row in recorded}
    await _add_sources(log, run, bodies)
    headers: dict[int, bytes] = {}
    known: dict[int, bytes] = {}
    for row in recorded:
        try:
            event = read_event(row)
            if isinstance(event, InputEvent) and event.pieces:
                # Most inputs copy from the one before: with that at hand, no chain is followed twice.
                known = {row.sequence: whole_input(event, row, bodies.__getitem__, known)}
                whole = msgspec.Raw(known[row.sequence])
                headers[row.sequence] = ev.encode_event(msgspec.structs.replace(event, input=whole, pieces=()))
        except (CorruptLog, UnknownEvent, KeyError, msgspec.MsgspecError):
            continue  # it is shown as it stands
    return headers


async def _add_sources(log: EventLog, run: str, bodies: dict[int, bytes]) -> None:
    """Read what the inputs copy from, and what that copies from, a page at a time."""
    todo = list(bodies)
    seen = set(todo)
    while todo:
        sequence = todo.pop()
        if sequence not in bodies:
            page = await log.read(run, after=max(sequence - PAGE, 0), limit=PAGE)
            bodies.update((row.sequence, row.body) for row in page)
        try:
            new = sources_of(bodies.get(sequence, b"")) - seen
        except msgspec.MsgspecError:
            continue
        seen |= new
        todo += new
