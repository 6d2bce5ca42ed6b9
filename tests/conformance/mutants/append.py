"""Mutants of appends: fencing, closing, creation, batches, and what becomes of a lost reply."""

import asyncio

import msgspec

from pointsman.ports.event_log import AppendResult, Outcome, Resolution
from pointsman.stores.memory.event_log import MemoryEventLog


class NoEpochCheck(MemoryEventLog):
    """No epoch check."""

    caught_by = (
        "fencing.a_stale_epoch_is_fenced",
        "fencing.the_owner_before_never_writes_beside_the_new",
        "fencing.a_claim_cuts_between_two_appends",
    )

    def _refuse_move(self, row, item):
        return super()._refuse_move(row, msgspec.structs.replace(item, epoch=row.epoch) if row else item)


class OnlyOlderEpochsFenced(MemoryEventLog):
    """An epoch ahead is let through."""

    caught_by = ("fencing.an_epoch_from_the_future_is_fenced",)

    def _refuse_move(self, row, item):
        ahead = row is not None and item.epoch > row.epoch
        return super()._refuse_move(row, msgspec.structs.replace(item, epoch=row.epoch) if ahead else item)


class NoSequenceCheck(MemoryEventLog):
    """No sequence check."""

    caught_by = (
        "fencing.a_wrong_sequence_is_a_conflict",
        "races.one_writer_wins_each_sequence",
        "append.absent_is_appended_again",
    )

    def _refuse_move(self, row, item):
        expected = len(row.events) if row else 0
        return super()._refuse_move(row, msgspec.structs.replace(item, expected=expected))


class SequenceBeforeEpoch(MemoryEventLog):
    """Sequence before epoch."""

    caught_by = ("fencing.fenced_says_more_than_conflict",)

    def _refuse_move(self, row, item):
        if row is not None and len(row.events) != item.expected:
            return Outcome.CONFLICT
        return super()._refuse_move(row, item)


class MailBeforeEpoch(MemoryEventLog):
    """Mail before epoch."""

    caught_by = ("fencing.fenced_says_more_than_mail",)

    def _refuse_move(self, row, item):
        if row is not None and item.closes and row.mail != item.folded:
            return Outcome.MAIL_ARRIVED
        return super()._refuse_move(row, item)


class NoMailCheck(MemoryEventLog):
    """No mail check."""

    caught_by = ("append.closing_over_unread_mail_is_refused",)

    def _refuse_move(self, row, item):
        refusal = super()._refuse_move(row, item)
        return None if refusal is Outcome.MAIL_ARRIVED else refusal


class MailCheckOnlyWhenEnding(MemoryEventLog):
    """Mail check only when ending."""

    caught_by = (
        "append.closing_over_unread_mail_is_refused",
        "races.letters_and_a_parking_parent_never_miss_each_other",
        "children.a_childs_end_reaches_an_owned_parent_once",
    )

    def _refuse_move(self, row, item):
        refusal = super()._refuse_move(row, item)
        return None if refusal is Outcome.MAIL_ARRIVED and item.status == "parked" else refusal


class EmptyAppendsMoveNothing(MemoryEventLog):
    """Empty appends move nothing."""

    caught_by = ("append.a_head_moves_without_events",)

    def _move(self, row, item):
        if item.events:
            super()._move(row, item)


class ChecksThenWrites(MemoryEventLog):
    """Looks at a snapshot, and others write before it does: what a check outside the statement is."""

    caught_by = (
        "races.one_writer_wins_each_sequence",
        "races.one_creator_wins_each_id",
        "races.mail_and_parking_never_miss_each_other",
        "races.parking_in_a_crowd_counts_what_came_before",
        "races.mail_is_folded_or_refused_by_an_end",
        "fencing.a_claim_cuts_between_two_appends",
    )

    async def append(self, batch, *, lane=0):
        refusals = []
        for item in batch:
            row = self._database.runs.get(item.run)
            if item.create is None:
                refusals.append(self._refuse_move(row, item))
            else:
                refusals.append(Outcome.EXISTS if row is not None else None)
        await self._session.enter()
        await asyncio.sleep(0)
        for item, refusal in zip(batch, refusals, strict=True):
            if refusal is None:
                row = self._database.runs.get(item.run)
                if row is None:
                    row = self._database.insert(item.run, item.create, item.epoch)
                self._move(row, item)
                self._deliver(item)
        return [AppendResult(refusal or Outcome.MOVED) for refusal in refusals]


class CreateOverwrites(MemoryEventLog):
    """Create overwrites."""

    caught_by = (
        "append.created_twice_exists",
        "append.created_again_later_exists",
        "races.one_creator_wins_each_id",
    )

    def _refuse_creation(self, row, item, settled):
        refusal = super()._refuse_creation(row, item, settled)
        return None if refusal is Outcome.EXISTS else refusal


class ExistingTakesTheEvents(MemoryEventLog):
    """An existing run takes the events."""

    caught_by = (
        "append.created_twice_exists",
        "append.neighbours_of_a_refused_run_move",
    )

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if result.outcome is Outcome.EXISTS:
            self._move(self._database.runs[item.run], item)
        return result


class AllOrNothing(MemoryEventLog):
    """All or nothing."""

    caught_by = ("append.neighbours_of_a_refused_run_move",)

    def _commit(self, batch):
        for item in batch:
            row = self._database.runs.get(item.run)
            if item.create is None and self._refuse_move(row, item) is not None:
                return [AppendResult(Outcome.CONFLICT) for _ in batch]
        return super()._commit(batch)


class ResultsInOrderOfIds(MemoryEventLog):
    """Results in the order of ids."""

    caught_by = ("children.a_refused_child_tells_nothing",)

    def _commit(self, batch):
        return super()._commit(sorted(batch, key=lambda item: item.run))


class LastOfBatchLost(MemoryEventLog):
    """The end of a large batch is lost."""

    caught_by = ("append.a_batch_moves_many_runs",)

    def _commit(self, batch):
        results = super()._commit(batch[:50])
        return results + [AppendResult(Outcome.MOVED) for _ in batch[50:]]


class EmptyBatchFails(MemoryEventLog):
    """A batch of nothing is an error."""

    caught_by = ("append.an_empty_batch_is_nothing",)

    def _commit(self, batch):
        last = batch[-1]
        return super()._commit([*batch[:-1], last])


class OneEventPerAppend(MemoryEventLog):
    """One event per append."""

    caught_by = (
        "append.sequences_are_dense",
        "append.reads_come_in_pages",
        "append.a_batch_moves_many_runs",
        "append.created_and_ended_at_once",
    )

    def _move(self, row, item):
        super()._move(row, msgspec.structs.replace(item, events=item.events[:1]))


class MissingIsCreated(MemoryEventLog):
    """Missing is a conflict."""

    caught_by = ("append.a_missing_run_is_said_to_be",)

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        return AppendResult(Outcome.CONFLICT) if result.outcome is Outcome.MISSING else result


class HalfAHead(MemoryEventLog):
    """Forgets when the run is due, who owns it, and what was folded."""

    caught_by = (
        "append.acknowledged_is_visible_to_others",
        "append.an_open_append_tells_of_mail",
        "append.created_and_ended_at_once",
    )

    def _move(self, row, item):
        super()._move(row, item)
        row.wake_at, row.folded, row.ended_at = None, 0, None


class SilentAboutMail(MemoryEventLog):
    """Silent about mail."""

    caught_by = (
        "append.an_open_append_tells_of_mail",
        "append.closing_over_unread_mail_is_refused",
    )

    def _settle(self, item, settled):
        return AppendResult(super()._settle(item, settled).outcome)


class EndedRunsMove(MemoryEventLog):
    """An ended run moves."""

    caught_by = ("fencing.an_ended_run_moves_no_more",)

    def _refuse_move(self, row, item):
        ended_at, row.ended_at = row.ended_at, None
        refusal = super()._refuse_move(row, item)
        row.ended_at = ended_at
        return refusal


class EpochOfNobody(MemoryEventLog):
    """Events of epoch 0."""

    caught_by = ("fencing.events_carry_their_writers_epoch",)

    def _move(self, row, item):
        super()._move(row, msgspec.structs.replace(item, epoch=0))


class AlwaysOurs(MemoryEventLog):
    """Another's is ours."""

    caught_by = ("append.resolving_a_lost_reply",)

    async def resolve(self, append):
        found = await super().resolve(append)
        return Resolution.OURS if found is Resolution.OTHERS else found


class NeverOurs(MemoryEventLog):
    """Ours is absent."""

    caught_by = (
        "append.resolving_a_lost_reply",
        "append.absent_is_appended_again",
    )

    async def resolve(self, append):
        found = await super().resolve(append)
        return Resolution.ABSENT if found is Resolution.OURS else found


class ReadsOnePage(MemoryEventLog):
    """Reads one page."""

    caught_by = ("append.reads_come_in_pages",)

    async def read(self, run, *, after=0, limit=1000, bytes_max=None):
        return (await super().read(run, after=0, limit=limit, bytes_max=bytes_max))[after:]


class DeadlockSurfaces(MemoryEventLog):
    """Heads locked in the order of the batch: two that cross are told of it."""

    caught_by = (
        "crossing.batches_that_cross_both_come_through",
        "crossing.letters_that_cross_both_arrive",
    )

    async def append(self, batch, *, lane=0):
        runs = [item.run for item in batch] + [item.letter.run for item in batch if item.letter]
        await asyncio.sleep(0)
        under_way = vars(self._database).setdefault("under_way", [])
        for other in under_way:
            common = [run for run in other if run in runs]
            if len(common) > 1 and sorted(common, key=runs.index) != common:
                raise RuntimeError("deadlock detected")
        under_way.append(runs)
        try:
            await asyncio.sleep(0)
            return await super().append(batch, lane=lane)
        finally:
            under_way.remove(runs)


class LanesShareAnything(MemoryEventLog):
    """What is in flight in one lane is overwritten by the other."""

    caught_by = ("crossing.two_lanes_do_not_disturb_each_other",)

    async def append(self, batch, *, lane=0):
        self._last = list(batch)
        await asyncio.sleep(0)
        return await super().append(self._last, lane=lane)


class ReadsAllFromTheFirst(MemoryEventLog):
    """Many streams, each from where the first begins."""

    caught_by = ("append.many_streams_are_read_together",)

    async def read_many(self, after, *, limit, bytes_max=None):
        return await super().read_many(
            dict.fromkeys(after, next(iter(after.values()), 0)), limit=limit, bytes_max=bytes_max
        )


class OneLimitForAll(MemoryEventLog):
    """The limit is that of all streams together."""

    caught_by = ("append.many_streams_are_read_together",)

    async def read_many(self, after, *, limit, bytes_max=None):
        read = await super().read_many(after, limit=limit, bytes_max=bytes_max)
        for run, events in read.items():
            read[run], limit = events[:limit], max(limit - len(events), 0)
        return read


class SilentOnTheMissing(MemoryEventLog):
    """Runs without events are left out."""

    caught_by = ("append.many_streams_are_read_together",)

    async def read_many(self, after, *, limit, bytes_max=None):
        read = await super().read_many(after, limit=limit, bytes_max=bytes_max)
        return {run: events for run, events in read.items() if events}
