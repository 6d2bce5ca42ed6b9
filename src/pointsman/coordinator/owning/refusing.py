"""Refusing runs that can't be driven: the reason is recorded as an event of the run, and the run is given up.

It is `stopped` until other code comes, or `quarantined` until a person has looked. So one bad run never blocks the
others.
"""

from __future__ import annotations

import asyncio

from pointsman.coordinator.driving.crew import Crew
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import beginning
from pointsman.kernel.errors import CodeChanged, InvalidInput, PointsmanError, StoreUnavailable
from pointsman.kernel.events import Recorded
from pointsman.kernel.values import faithful
from pointsman.ports.event_log import Append, Outcome, chained

MESSAGE_CHARS_MAX = 4_000


async def refuse(
    crew: Crew, run: str, epoch: int, sequence: int, last: tuple[int, int] | None, build: str, error: PointsmanError
) -> None:
    """Record that this code can't drive the run, and give it up until other code comes, or until a person releases it.

    Args:
        sequence: of the last event. last: the checksum and time of that event; without them it is read.
    """
    if last is None:
        row = await _last(crew, run, sequence)
        last = (row.checksum, row.at) if row is not None else (beginning(run), 0)
    checksum, at = last
    now = max(crew.store.clock.now(), at)
    note = ev.RunStopped(kind=error.code, message=faithful(error, MESSAGE_CHARS_MAX), build=build)
    fits_later = isinstance(error, CodeChanged | InvalidInput)
    event = chained(
        checksum, sequence + 1, epoch, type="RunStopped", version=note.VERSION, at=now, body=ev.encode_event(note)
    )
    append = Append(
        run=run, epoch=epoch, expected=sequence, nonce=crew.ids.nonce(), owner=None, events=[event],
        status="stopped" if fits_later else "quarantined", wake_at=now if fits_later else None,
    )  # fmt: skip
    crew.stats.runs_stopped += fits_later
    crew.stats.runs_quarantined += not fits_later
    result = await crew.recorder.append([append])
    if result.outcome is Outcome.CONFLICT:  # the log has events behind its head: there is no place for another
        append = Append(
            run=run, epoch=epoch, expected=sequence, nonce=crew.ids.nonce(), owner=None, events=[],
            status="quarantined",
        )  # fmt: skip
        await crew.recorder.append([append])


async def _last(crew: Crew, run: str, sequence: int) -> Recorded | None:
    while True:
        try:
            rows = await crew.store.log.read(run, after=sequence - 1, limit=1)
            return rows[0] if rows else None
        except StoreUnavailable:
            await asyncio.sleep(crew.settings.takeover_retry_ms / 1000)
