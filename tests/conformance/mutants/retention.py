"""Mutants of retention: what is deleted, what moves, and what becomes of the feed."""

import asyncio

from pointsman.ports.retention import BUCKET_MS
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.retention import MemoryRetention


class DeletesAtTheCut(MemoryRetention):
    """`<=` for `<`."""

    caught_by = ("retention.what_ended_before_the_cut_is_deleted",)

    def _is_over(self, row, before):
        return super()._is_over(row, before + 1)


class LeavesTasks(MemoryDatabase):
    """Human tasks outlive their run."""

    caught_by = ("retention.what_ended_before_the_cut_is_deleted", "retention.the_id_of_a_deleted_run_is_free")

    def erase(self, runs):
        kept = dict(self.tasks)
        super().erase(runs)
        self.tasks = kept


class LeavesReservations(MemoryDatabase):
    """Reservations outlive their run."""

    caught_by = ("retention.what_ended_before_the_cut_is_deleted", "retention.the_id_of_a_deleted_run_is_free")

    def erase(self, runs):
        kept = {tranche: set(spent) for tranche, spent in self.reservations.items()}
        super().erase(runs)
        self.reservations = kept


class OnlyEventsGo(MemoryDatabase):
    """The head stays, with an empty stream."""

    caught_by = ("retention.what_ended_before_the_cut_is_deleted", "retention.the_id_of_a_deleted_run_is_free")

    def erase(self, runs):
        rows = {run: self.runs[run] for run in runs}
        super().erase(runs)
        for run, row in rows.items():
            row.events = []
            self.runs[run] = row


class DeletesByAge(MemoryRetention):
    """Whatever is old: also what has not ended."""

    caught_by = ("retention.an_open_run_is_never_deleted",)

    def _is_over(self, row, before):
        return row.created_at < before

    async def delete(self, before, *, limit):
        deleted = await super().delete(before, limit=limit)
        self._database.open_runs = {run: row for run, row in self._database.runs.items() if row.ended_at is None}
        return deleted


class DeletesParked(MemoryRetention):
    """A run that nobody owns counts as ended."""

    caught_by = ("retention.an_open_run_is_never_deleted",)

    def _is_over(self, row, before):
        return super()._is_over(row, before) or row.owner is None


class DeletesWithoutLimit(MemoryRetention):
    """All in one statement."""

    caught_by = ("retention.no_more_than_the_limit_is_deleted",)

    async def delete(self, before, *, limit):
        return await super().delete(before, limit=1000)


class DeletesChildrenOfOpenRuns(MemoryRetention):
    """A child is deleted however its parent is."""

    caught_by = ("retention.a_child_stays_while_its_parent_is_open",)

    def _parent_is_over(self, row, before):
        return True


class ChildrenGoWhenTheParentEnded(MemoryRetention):
    """At whatever moment it ended."""

    caught_by = ("retention.a_child_stays_while_its_parent_is_open",)

    def _parent_is_over(self, row, before):
        return super()._parent_is_over(row, before + BUCKET_MS)


class DeletesParents(MemoryRetention):
    """A parent is deleted however its children are."""

    caught_by = ("retention.a_parent_stays_while_a_child_does",)

    def _deletable(self, before):
        return [row.id for row in self._database.runs.values() if self._is_over(row, before)]


class DeletesBySnapshot(MemoryRetention):
    """Chooses, lets others in, and then deletes what it has chosen."""

    caught_by = ("retention.a_redrive_and_the_deletion_of_a_child_exclude_each_other",)

    async def delete(self, before, *, limit):
        gone = self._deletable(before)[:limit]
        for _ in range(3):
            await asyncio.sleep(0)
        gone = [run for run in gone if run in self._database.runs]
        self._fence_parents(gone)
        self._database.erase(set(gone))
        return len(gone)


class DeletesUnderARedrive(MemoryRetention):
    """The parent's epoch stays: what was decided while the child was there moves."""

    caught_by = ("retention.a_redrive_and_the_deletion_of_a_child_exclude_each_other",)

    def _fence_parents(self, gone):
        pass


class ParentsStayForEver(MemoryRetention):
    """A run that ever had a child is kept."""

    caught_by = (
        "retention.a_parent_stays_while_a_child_does",
        "retention.a_child_stays_while_its_parent_is_open",
    )

    def _deletable(self, before):
        self.__dict__.setdefault("parents", set()).update(row.new.parent for row in self._database.runs.values())
        return [run for run in super()._deletable(before) if run not in self.parents]


class MoveChangesTheEpoch(MemoryRetention):
    """A move counts as a claim."""

    caught_by = ("retention.what_is_kept_moves_to_the_current_bucket",)

    async def move(self, bucket, *, limit):
        for row in self._in(bucket):
            row.epoch += 1
        return await super().move(bucket, limit=limit)


class MoveLosesNonces(MemoryRetention):
    """Events are copied without the columns that readers do not see."""

    caught_by = ("retention.what_is_kept_moves_to_the_current_bucket",)

    async def move(self, bucket, *, limit):
        for row in self._in(bucket):
            row.nonces = [b""] * len(row.nonces)
        return await super().move(bucket, limit=limit)


class MovesWithoutLimit(MemoryRetention):
    """All in one statement."""

    caught_by = ("retention.moving_takes_no_more_than_asked",)

    async def move(self, bucket, *, limit):
        return await super().move(bucket, limit=1000)


class LeavesEndedRuns(MemoryRetention):
    """Only open runs move."""

    caught_by = ("retention.moving_takes_no_more_than_asked",)

    def _in(self, bucket):
        return [row for row in super()._in(bucket) if row.ended_at is None]


class DropsWhatIsInUse(MemoryRetention):
    """A bucket is dropped with the runs that are in it."""

    caught_by = ("retention.an_empty_bucket_is_dropped",)

    async def drop(self, bucket):
        left = self._in(bucket)
        for row in left:
            row.events.clear()
        await super().drop(bucket)
        return True


class DropsTheCurrentBucket(MemoryRetention):
    """Any bucket may be dropped."""

    caught_by = ("retention.an_empty_bucket_is_dropped",)

    async def drop(self, bucket):
        return bucket >= self._current() or await super().drop(bucket)


class DroppedIsStillListed(MemoryRetention):
    """A drop that does nothing."""

    caught_by = ("retention.an_empty_bucket_is_dropped",)

    async def drop(self, bucket):
        was = set(self._database.buckets)
        dropped = await super().drop(bucket)
        self._database.buckets = was
        return dropped


class PastAWeekEarly(MemoryRetention):
    """A bucket is past as soon as its week has begun."""

    caught_by = ("retention.buckets_are_past_when_their_week_is",)

    async def past(self, before):
        return await super().past(before + BUCKET_MS)


class CountsEndedAsOpen(MemoryRetention):
    """Every run of a bucket is open."""

    caught_by = ("retention.buckets_say_what_is_in_them",)

    def _describe(self, number):
        found = super()._describe(number)
        return type(found)(found.number, found.runs, found.runs, found.oldest_open, found.size)


class YoungestOpen(MemoryRetention):
    """The oldest open run is the last one."""

    caught_by = ("retention.buckets_say_what_is_in_them",)

    def _in(self, bucket):
        return super()._in(bucket)[-1:]


class FeedCloses(MemoryDatabase):
    """Deleted events leave no place behind, so what follows moves up."""

    caught_by = ("retention.the_feed_goes_on_over_what_was_deleted",)

    def erase(self, runs):
        super().erase(runs)
        self.feed[:] = [entry for entry in self.feed if entry[0]]


class FeedShowsTheDeleted(MemoryDatabase):
    """The feed is left as it is."""

    caught_by = ("retention.the_feed_goes_on_over_what_was_deleted", "retention.the_id_of_a_deleted_run_is_free")

    def erase(self, runs):
        kept = list(self.feed)
        super().erase(runs)
        self.feed = kept


class EmptyPageEndsTheFeed(MemoryEventLog):
    """The cursor counts what a page shows, not what it went over."""

    caught_by = ("retention.the_feed_goes_on_over_what_was_deleted",)

    async def feed(self, *, cursor=None, limit=1000):
        events, _ = await super().feed(cursor=cursor, limit=limit)
        return events, str(int(cursor or 0) + len(events))


class MovesWhatItSawBefore(MemoryRetention):
    """Reads the events, lets others in, and writes them to the new bucket: what came meanwhile is lost."""

    caught_by = ("retention.appends_beside_a_move_lose_nothing",)

    async def move(self, bucket, *, limit):
        seen = {row.id: list(row.events) for row in self._in(bucket)[:limit]}
        for _ in range(5):
            await asyncio.sleep(0)
        for run, events in seen.items():
            self._database.runs[run].events = events
        return await super().move(bucket, limit=limit)
