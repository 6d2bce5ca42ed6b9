"""Inspection: what the doctor is told, and that its repairs are fenced and lose nothing."""

from __future__ import annotations

from pointsman.kernel.checksum import beginning
from pointsman.ports.event_log import Append, Outcome, chained
from pointsman.ports.inspection import Cut
from pointsman.ports.reservations import Reservation, ReservationRow
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, coordinator, coordinators, until


def _cut(run: str, *, epoch: int = 1, sequence: int, kept: int, folded: int = 0) -> Cut:
    repaired = chained(
        beginning(run), kept + 1, epoch + 1, type="LogRepaired", version=1, at=1_700_000_000_000, body=b'{"first":3}'
    )
    return Cut(run, epoch, sequence, kept, folded, repaired, "event 3 is not what was appended")


async def _five(a: Coordinator, run: str) -> None:
    await a.moved(a.create(run, events=2))
    await a.moved(a.step(run, 2, events=3))


async def a_cut_puts_one_event_in_the_place_of_a_suffix(harness: Harness) -> None:
    """And keeps what it moves away; the run is anybody's at once."""
    a, b = await coordinators(harness, 2)
    await _five(a, "run")
    await _five(a, "other")
    before = await a.stream("run")
    cut = _cut("run", sequence=5, kept=2)
    assert await b.store.inspection.cut(cut)
    after = await a.stream("run")
    assert after[:2] == before[:2]
    (repaired,) = after[2:]
    assert (repaired.sequence, repaired.type, repaired.body) == (3, "LogRepaired", b'{"first":3}')
    assert (repaired.at, repaired.epoch, repaired.checksum) == (cut.repaired.at, 2, cut.repaired.checksum)
    assert await a.store.inspection.moved_away("run") == 3
    assert await a.store.inspection.moved_away("other") == 0
    head = await a.head("run")
    assert (head.sequence, head.epoch, head.owner, head.status) == (3, 2, None, "running")
    assert len(await a.stream("other")) == 5
    (claimed,) = await b.claim("run")
    assert claimed.epoch == 3
    await b.moved(b.step("run", 3, epoch=3))
    assert [row.sequence for row in await a.stream("run")] == [1, 2, 3, 4]


async def a_cut_is_seen_in_the_feed(harness: Harness) -> None:
    """What was moved away is not in it any more; a reader that was past it comes to the new events."""
    a = await coordinator(harness)
    await _five(a, "run")

    async def fed(cursor: str | None = None) -> list[tuple[int, str]]:
        events, _ = await a.store.log.feed(cursor=cursor)
        return [(item.recorded.sequence, item.recorded.type) for item in events]

    async def all_fed() -> str | None:
        events, cursor = await a.store.log.feed()
        return cursor if len(events) == 5 else None

    cursor = await until(all_fed)
    assert cursor is not None
    assert await a.store.inspection.cut(_cut("run", sequence=5, kept=2))

    async def has_repair() -> bool:
        return (3, "LogRepaired") in await fed()

    assert await until(has_repair)
    assert [sequence for sequence, _ in await fed()] == [1, 2, 3]
    assert await fed(cursor) == [(3, "LogRepaired")]


async def a_cut_fences_the_owner(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await _five(a, "run")
    assert await b.store.inspection.cut(_cut("run", sequence=5, kept=4))
    assert await a.outcome(a.step("run", 5)) is Outcome.FENCED
    assert len(await a.stream("run")) == 5


async def a_cut_of_another_head_than_was_seen_does_nothing(harness: Harness) -> None:
    """Somebody has claimed it, appended to it, or ended it; or there is no such run."""
    a, b = await coordinators(harness, 2)
    await _five(a, "run")
    inspection = b.store.inspection
    assert not await inspection.cut(_cut("run", epoch=2, sequence=5, kept=2))
    assert not await inspection.cut(_cut("run", epoch=0, sequence=5, kept=2))
    assert not await inspection.cut(_cut("run", sequence=4, kept=2))
    assert not await inspection.cut(_cut("run", sequence=6, kept=2))
    assert not await inspection.cut(_cut("nobody", sequence=5, kept=2))
    assert len(await a.stream("run")) == 5
    await a.moved(a.finish("run", 5))
    assert not await inspection.cut(_cut("run", sequence=6, kept=2))
    assert (await a.head("run")).status == "completed"
    assert await inspection.moved_away("run") == 0


async def mail_of_a_suffix_is_read_again(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run", events=2))
    for key in ("one", "two"):
        await a.post("run", key)
    await a.moved(a.step("run", 2, events=2, folded=2))
    assert await a.store.inspection.cut(_cut("run", sequence=4, kept=3, folded=1))
    (head,) = await a.claim("run")
    assert (head.folded, head.mail) == (1, 2)
    assert await a.store.mailbox.unread(a.number) == {"run": 2}
    assert await a.outcome(a.park("run", 4, epoch=3, folded=1)) is Outcome.MAIL_ARRIVED


async def reservations_of_a_suffix_are_forgotten(harness: Harness) -> None:
    """Other events will stand in their places."""
    a = await coordinator(harness)
    append = a.create("run", events=5)
    await a.moved(_spending(append, 2, 4))
    await a.moved(_spending(a.create("other", events=5), 4))
    assert await a.store.inspection.cut(_cut("run", sequence=5, kept=2))
    assert await a.store.reservations.of("t") == [Reservation("t", "other", 4), Reservation("t", "run", 2)]


def _spending(append: Append, *sequences: int) -> Append:
    append.reservations = tuple(ReservationRow("t", sequence) for sequence in sequences)
    return append


async def the_runs_of_ended_incarnations_are_orphans(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"), a.create("ended"), a.create("parked"))
    await a.moved(a.finish("ended", 1), a.park("parked", 1))
    await b.moved(b.create("living"))
    assert await b.store.inspection.orphans(limit=10) == []
    await harness.end(a.number)
    (orphan,) = await b.store.inspection.orphans(limit=10)
    assert (orphan.run, orphan.owner) == ("run", a.number)
    assert orphan.ended_ms_ago is not None
    assert await b.store.inspection.orphans(runs=["living"], limit=10) == []
    assert await b.store.inspection.orphans(limit=0) == []
    await b.claim_orphans()
    assert await b.store.inspection.orphans(limit=10) == []


async def sound_mail_is_counted_right(harness: Harness) -> None:
    """Nothing is wrong with it; to count it again fences the owner and loses none."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"), a.create("ended"))
    await a.post("run", "one")
    await a.post("run", "two")
    await a.moved(a.finish("ended", 1))
    inspection = b.store.inspection
    assert await inspection.mail_counts(limit=10) == []
    assert await inspection.mail_counts(runs=["run"], limit=10) == []
    assert not await inspection.recount_mail("run", 2)
    assert not await inspection.recount_mail("nobody", 1)
    assert not await inspection.recount_mail("ended", 1)
    assert await a.outcome(a.step("run", 1)) is Outcome.MOVED
    assert await inspection.recount_mail("run", 1)
    head = await a.head("run")
    assert (head.mail, head.epoch, head.owner) == (2, 2, None)
    assert await a.outcome(a.step("run", 2)) is Outcome.FENCED
    assert len(await b.claim("run")) == 1


async def a_sound_store_has_no_strays(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(_spending(a.create("run", events=3), 2))
    await a.post("run", "one")
    assert await a.store.inspection.strays(limit=10) == []
    assert await a.store.inspection.facts()


CASES = (
    a_cut_puts_one_event_in_the_place_of_a_suffix,
    a_cut_is_seen_in_the_feed,
    a_cut_fences_the_owner,
    a_cut_of_another_head_than_was_seen_does_nothing,
    mail_of_a_suffix_is_read_again,
    reservations_of_a_suffix_are_forgotten,
    the_runs_of_ended_incarnations_are_orphans,
    sound_mail_is_counted_right,
    a_sound_store_has_no_strays,
)
