"""Retention: what is deleted goes as a whole, what is kept moves as a whole, and nobody who works meanwhile notices."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from pointsman.kernel.errors import InvalidValue, UnknownRun
from pointsman.ports.event_log import Append, FeedEvent, Head, Outcome, Resolution, RunFilter
from pointsman.ports.human_tasks import TaskFilter, TaskRow
from pointsman.ports.reservations import ReservationRow
from pointsman.ports.retention import BUCKET_MS, Bucket
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    Coordinator,
    assert_dense,
    coordinator,
    coordinators,
    every,
    jitter,
    letter,
    patience,
    raises,
    until,
)

OLD = 1
"""A bucket of long ago."""
YEAR_MS = 365 * 24 * 3600 * 1000


async def what_ended_before_the_cut_is_deleted(harness: Harness) -> None:
    """With its mail, its tasks and its reservations; what ended at the cut stays as it is."""
    a, b = await coordinators(harness, 2)
    for run in ("old", "late"):
        await a.moved(_rich(a, run))
        await a.post(run, "key", b"hello")
    await a.moved(a.finish("old", 2, folded=1))
    await _time_passes(a, "old")
    await a.moved(a.finish("late", 2, folded=1))
    late, stream = await a.head("late"), await a.stream("late")
    assert await b.store.retention.delete(_end(late), limit=100) == 1
    assert await b.store.retention.delete(_end(late), limit=100) == 0
    assert await b.store.log.heads(["old", "late"]) == {"late": late}
    assert await _traces(b.store, "old") == ([], [], None, None, [], [])
    assert await b.stream("late") == stream
    assert [len(found) for found in await _traces(b.store, "late") if isinstance(found, list)] == [3, 1, 1, 1]
    heads, _ = await a.store.log.list_runs(RunFilter())
    assert [head.id for head in heads] == ["late"]
    assert await a.outcome(a.step("old", 3, folded=1)) is Outcome.MISSING
    await raises(UnknownRun, a.post("old", "another"))


async def an_open_run_is_never_deleted(harness: Harness) -> None:
    """However old it is, and whatever it waits for."""
    a = await coordinator(harness)
    stopped, quarantined = a.park("stopped", 1), a.park("quarantined", 1)
    stopped.status, quarantined.status = "stopped", "quarantined"
    names = ["running", "parked", "stopped", "quarantined", "unowned"]
    await a.moved(*(a.create(run, bucket=OLD, epoch=0 if run == "unowned" else 1) for run in names))
    await a.moved(a.park("parked", 1), stopped, quarantined)
    assert await a.store.retention.delete(a.store.clock.now() + YEAR_MS, limit=100) == 0
    assert sorted(await a.store.log.heads(names)) == sorted(names)


async def no_more_than_the_limit_is_deleted(harness: Harness) -> None:
    a = await coordinator(harness)
    names = [f"run-{number}" for number in range(5)]
    await _ended(a, *names)
    before = _end(await a.head(names[-1])) + 1
    assert [await a.store.retention.delete(before, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await a.store.log.heads(names) == {}


async def a_child_stays_while_its_parent_is_open(harness: Harness) -> None:
    """And goes before it does. What a deleted grandparent left behind is nobody's child."""
    a = await coordinator(harness)
    await a.moved(a.create("parent", bucket=OLD), a.create("child", parent="parent", bucket=OLD))
    await a.moved(a.step("child", 1), a.create("grandchild", parent="child", bucket=OLD))
    await a.moved(a.finish("grandchild", 1))
    await a.moved(a.finish("child", 2))
    before = _end(await a.head("child")) + 1
    assert await _delete_all(a.store, before) == 1
    assert sorted(await a.store.log.heads(["parent", "child", "grandchild"])) == ["child", "parent"]
    await _time_passes(a, "child")
    await a.moved(a.finish("parent", 1))
    after = _end(await a.head("parent"))
    assert before <= after
    assert await _delete_all(a.store, after) == 0
    assert await _delete_all(a.store, after + 1) == 2
    assert await a.store.log.heads(["parent", "child"]) == {}


async def a_parent_stays_while_a_child_does(harness: Harness) -> None:
    """Else a new run under its id would get the child's outcome, or meet the child itself."""
    a = await coordinator(harness)
    for name in ("one", "two"):
        await a.moved(a.create(name, bucket=OLD), a.create(f"{name}/child", parent=name, bucket=OLD))
        await a.moved(a.finish(name, 1))
    before = _end(await a.head("two")) + 1
    await _time_passes(a, "two")
    await a.moved(a.finish("two/child", 1, letter=letter("two", "child")))
    assert await _delete_all(a.store, before) == 0
    assert await _delete_all(a.store, _end(await a.head("two/child")) + 1) == 2
    assert sorted(await a.store.log.heads(["one", "two", "one/child", "two/child"])) == ["one", "one/child"]


async def a_redrive_and_the_deletion_of_a_child_exclude_each_other(harness: Harness) -> None:
    """A redrive that was decided while the child was there does not move once it is gone; where it moves, the child
    stays. Whichever is first, and many times at once."""
    a, b = await coordinators(harness, 2)
    late = await _failed_family(a, "late")
    before = _end(await a.head("late")) + 1
    await _time_passes(a, "late")
    assert await b.store.retention.delete(before, limit=10) == 1
    assert await a.outcome(late) is Outcome.FENCED
    early = await _failed_family(a, "early")
    await a.moved(early)
    assert await _delete_all(b.store, _end(await a.head("early/child")) + 1) == 1, "late itself"
    assert "early/child" in await a.store.log.heads(["early/child"])
    chance = random.Random(11)
    for number in range(12):
        families = [f"{number}-{family}" for family in range(4)]
        redrives = [await _failed_family(a, family) for family in families]
        before = max([_end(await a.head(family)) for family in families]) + 1
        await _time_passes(a, families[-1])

        async def redrive(append: Append) -> Outcome:
            await jitter(chance)
            return await a.outcome(append)

        async def delete(before: int = before) -> None:
            await jitter(chance)
            await b.store.retention.delete(before, limit=2)

        tasks = [asyncio.create_task(redrive(append)) for append in redrives]
        await every(*tasks, *(asyncio.create_task(delete()) for _ in range(2)))
        left = await b.store.log.heads([f"{family}/child" for family in families])
        for family, task in zip(families, tasks, strict=True):
            has_child = f"{family}/child" in left
            assert (task.result() is Outcome.MOVED) == has_child, (family, task.result())


async def the_id_of_a_deleted_run_is_free(harness: Harness) -> None:
    """The new run has nothing of the old one: no event, no mail, and the feed shows it alone."""
    a, b = await coordinators(harness, 2)
    await a.moved(_rich(a, "run"))
    await a.post("run", "key", b"old")
    await a.moved(a.finish("run", 2, folded=1))
    assert await a.store.retention.delete(_end(await a.head("run")) + 1, limit=10) == 1
    await a.moved(a.create("run", events=2))
    head = await b.head("run")
    assert (head.sequence, head.epoch, head.mail, head.status) == (2, 1, 0, "running")
    assert_dense(await b.stream("run"), 2)
    assert await _traces(b.store, "run") == (await b.stream("run"), [], None, None, [], [])
    assert await b.post("run", "key", b"new") == 1
    events = await _feed(b.store, None, 2)
    assert [(item.run, item.recorded.sequence) for item in events] == [("run", 1), ("run", 2)]


async def what_is_kept_moves_to_the_current_bucket(harness: Harness) -> None:
    """Nothing else of it changes, and its owner goes on; even an append whose reply was lost is found."""
    a, b = await coordinators(harness, 2)
    creation, last = a.create("run", events=3, bucket=OLD), a.step("run", 3, events=2)
    await a.moved(creation, a.create("other", bucket=OLD + 1))
    await a.moved(last)
    await a.post("run", "key")
    before, stream = await a.head("run"), await a.stream("run")
    other = await a.head("other")
    assert await b.store.retention.move(OLD, limit=10) == (1, 0)
    assert await b.store.retention.move(OLD, limit=10) == (0, 0)
    assert await b.head("run") == msgspec.structs.replace(before, bucket=b.store.bucket())
    assert await b.head("other") == other
    assert await b.stream("run") == stream
    assert await a.store.log.resolve(creation) is Resolution.OURS
    assert await a.store.log.resolve(last) is Resolution.OURS
    await a.moved(a.step("run", 5))
    await a.moved(a.park("run", 6, folded=1))
    await a.post("run", "second")
    (head,) = await b.claim("run")
    await b.moved(b.finish("run", 7, epoch=head.epoch, folded=2))
    assert_dense(await a.stream("run"), 8)
    assert (await a.stream("run"))[:5] == stream


async def moving_takes_no_more_than_asked(harness: Harness) -> None:
    """Of ended runs as of open ones; and in the current bucket there is nothing to do."""
    a = await coordinator(harness)
    names = [f"run-{number}" for number in range(5)]
    await a.moved(*(a.create(run, bucket=OLD) for run in names))
    await a.moved(a.finish(names[0], 1))
    assert [await a.store.retention.move(OLD, limit=2) for _ in range(3)] == [(2, 3), (2, 1), (1, 0)]
    assert {(await a.head(run)).bucket for run in names} == {a.store.bucket()}
    moved, left = await a.store.retention.move(a.store.bucket(), limit=10)
    assert (moved, left) == (0, 5)


async def an_empty_bucket_is_dropped(harness: Harness) -> None:
    """Not with a run in it, not twice, and never one in which runs may still start."""
    a, b = await coordinators(harness, 2)
    await _ended(a, "gone")
    await a.moved(a.create("kept", events=4, bucket=OLD))
    await a.store.retention.delete(_end(await a.head("gone")) + 1, limit=10)
    assert await b.store.retention.drop(OLD) is False
    assert_dense(await a.stream("kept"), 4)
    await a.moved(a.step("kept", 4))
    assert await b.store.retention.move(OLD, limit=10) == (1, 0)
    assert await b.store.retention.drop(OLD) is True
    assert await a.store.retention.drop(OLD) is True
    assert OLD not in [bucket.number for bucket in await a.store.retention.buckets()]
    assert_dense(await a.stream("kept"), 5)
    for bucket in (a.store.bucket(), a.store.bucket() + 1):
        try:
            await a.store.retention.drop(bucket)
        except ValueError:
            continue
        raise AssertionError(f"bucket {bucket} was dropped")
    await a.moved(a.create("again", bucket=OLD))
    assert_dense(await b.stream("again"), 1)


async def buckets_are_past_when_their_week_is(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(*(a.create(f"run-{bucket}", bucket=bucket) for bucket in (9, 2, 4)))
    past = a.store.retention.past
    assert await past(5 * BUCKET_MS) == [2, 4]
    assert await past(5 * BUCKET_MS - 1) == [2]
    assert await past(3 * BUCKET_MS - 1) == []
    now = a.store.clock.now()
    assert await past(now) == [2, 4, 9]
    assert a.store.bucket() == now // BUCKET_MS


async def buckets_say_what_is_in_them(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("first", bucket=OLD))
    await _time_passes(a)
    await a.moved(a.create("second", bucket=OLD), a.create("third", bucket=3))
    await _ended(a, "ended")
    await _ended(a, "alone", bucket=2)
    found = {bucket.number: bucket for bucket in await b.store.retention.buckets()}
    assert list(found) == sorted(found)
    assert (found[OLD].runs, found[OLD].open_runs) == (3, 2)
    assert found[OLD].oldest_open == (await a.head("first")).created_at
    assert (found[2].runs, found[2].open_runs, found[2].oldest_open) == (1, 0, None)
    assert all(found[number].size > 0 for number in (OLD, 2, 3))
    assert (found[2].starts_at, found[2].ends_at) == (2 * BUCKET_MS, 3 * BUCKET_MS)
    assert isinstance(found[2], Bucket)


async def the_feed_goes_on_over_what_was_deleted(harness: Harness) -> None:
    """An old cursor holds: behind it comes every event of a kept run once, in the old order, and none of the others."""
    a, b = await coordinators(harness, 2)
    names = [f"run-{number:02}" for number in range(24)]
    for run in names:
        await a.moved(a.create(run, events=2, bucket=OLD))
    for run in names:
        await a.moved(a.step(run, 2))
    gone = names[3:21]
    await a.moved(*(a.finish(run, 3) for run in gone))
    count = 3 * len(names) + len(gone)
    everything = await _feed(a.store, None, count)
    assert len(everything) == count
    read, cursor = await a.store.log.feed(limit=7)
    assert read == everything[:7]
    kept = [item for item in everything if item.run not in gone]
    rest = [item for item in everything[7:] if item.run not in gone]

    async def shows_what_is_kept() -> bool:
        for page in (1, 4, 1000):
            assert await _feed(b.store, cursor, len(rest), page=page) == rest
            assert await _feed(b.store, None, len(kept), page=page) == kept
        return True

    last = max([_end(await a.head(run)) for run in gone])  # a batch may take longer than a millisecond
    assert await _delete_all(b.store, last + 1) == len(gone)
    assert await shows_what_is_kept()
    assert await b.store.retention.move(OLD, limit=100) == (6, 0)
    assert await shows_what_is_kept()
    assert await b.store.retention.drop(OLD)
    assert await shows_what_is_kept()
    await raises(InvalidValue, a.store.log.feed(cursor="no cursor"))


async def appends_beside_a_move_lose_nothing(harness: Harness) -> None:
    """Two owners append as fast as they can while a third moves their runs and drops what they were in."""
    a, b, mover = await coordinators(harness, 3)
    for bucket in range(OLD, OLD + 4):
        runs = {f"{bucket}/run-{number:02}": (a, b)[number % 2] for number in range(16)}
        for owner in (a, b):
            await owner.moved(*(owner.create(run, bucket=bucket) for run, of in runs.items() if of is owner))
        is_over = asyncio.Event()
        steps = dict.fromkeys(runs, 1)
        writers = [
            asyncio.create_task(_write(owner, [run for run, of in runs.items() if of is owner], steps, is_over))
            for owner in (a, b)
        ]
        moving = asyncio.create_task(_move_out(mover.store, bucket, is_over))
        await every(moving, *writers)
        assert await mover.store.retention.drop(bucket)
        for run, count in steps.items():
            assert_dense(await a.stream(run), count)
            assert (await a.head(run)).sequence == count


# -- what the cases are written in -----------------------------------------------------------------------------


def _rich(a: Coordinator, run: str) -> Append:
    """A new run of two events with a task and a reservation."""
    append = a.create(run, events=2, bucket=OLD)
    append.tasks = (TaskRow(f"task of {run}", "ask#1", "open", "Well?", b"{}", 1),)
    append.reservations = (ReservationRow(f"tranche of {run}", 2),)
    return append


async def _failed_family(a: Coordinator, name: str) -> Append:
    """A run and its child, which have both failed; the redrive of the run that may be decided now."""
    await a.moved(a.create(name, bucket=OLD), a.create(f"{name}/child", parent=name, bucket=OLD))
    failed, ended = a.finish(name, 1), a.finish(f"{name}/child", 1)
    failed.status = ended.status = "failed"
    await a.moved(ended, failed)
    head = await a.head(name)
    again = a.step(name, head.sequence, epoch=head.epoch)
    again.owner, again.redrives, again.wake_at = None, True, 1
    return again


async def _traces(store: Store, run: str) -> tuple[object, ...]:
    """Everything that there is of such a run but its head."""
    tasks, _ = await store.human_tasks.list(TaskFilter(run=run))
    return (
        await store.log.read(run), await store.mailbox.read(run, after=0), await store.mailbox.find(run, "another"),
        None if await store.human_tasks.get(f"task of {run}") is None else run, tasks,
        await store.reservations.of(f"tranche of {run}"),
    )  # fmt: skip


async def _ended(a: Coordinator, *runs: str, bucket: int = OLD) -> None:
    await a.moved(*(a.create(run, bucket=bucket) for run in runs))
    await a.moved(*(a.finish(run, 1) for run in runs))


def _end(head: Head) -> int:
    assert head.ended_at is not None
    return head.ended_at


async def _time_passes(a: Coordinator, run: str | None = None) -> None:
    """Until what happens next is some milliseconds later, by whatever clock."""
    since = _end(await a.head(run)) if run is not None else a.store.clock.now()

    async def is_later() -> bool:
        return a.store.clock.now() > since + 20

    await until(is_later)


async def _delete_all(store: Store, before: int) -> int:
    """Children first, then their parents, in as many steps as it takes."""
    deleted = 0
    while count := await store.retention.delete(before, limit=5):
        deleted += count
    return deleted


async def _feed(store: Store, cursor: str | None, count: int, *, page: int = 1000) -> list[FeedEvent]:
    """So many events, and then no more."""
    events: list[FeedEvent] = []
    async with patience():
        while len(events) < count:
            more, cursor = await store.log.feed(cursor=cursor, limit=page)
            events += more
    for _ in range(3):
        more, cursor = await store.log.feed(cursor=cursor, limit=page)
        events += more
    return events


async def _write(owner: Coordinator, runs: Sequence[str], steps: dict[str, int], is_over: asyncio.Event) -> None:
    """Batch after batch, and a few more once all runs have moved."""
    chance = random.Random(owner.number)
    left = 3
    while left:
        left -= is_over.is_set()
        some = chance.sample(runs, 4)
        await owner.moved(*(owner.step(run, steps[run]) for run in some))
        for run in some:
            steps[run] += 1
        await jitter(chance)


async def _move_out(store: Store, bucket: int, is_over: asyncio.Event) -> None:
    try:
        async with patience():
            left = 1
            while left:
                _, left = await store.retention.move(bucket, limit=3)
                await asyncio.sleep(0)
    finally:
        is_over.set()


CASES = (
    what_ended_before_the_cut_is_deleted,
    an_open_run_is_never_deleted,
    no_more_than_the_limit_is_deleted,
    a_child_stays_while_its_parent_is_open,
    a_parent_stays_while_a_child_does,
    a_redrive_and_the_deletion_of_a_child_exclude_each_other,
    the_id_of_a_deleted_run_is_free,
    what_is_kept_moves_to_the_current_bucket,
    moving_takes_no_more_than_asked,
    an_empty_bucket_is_dropped,
    buckets_are_past_when_their_week_is,
    buckets_say_what_is_in_them,
    the_feed_goes_on_over_what_was_deleted,
    appends_beside_a_move_lose_nothing,
)
