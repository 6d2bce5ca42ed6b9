"""Mutants of inspection: repairs that are not fenced, or lose something, and answers that are wrong."""

import msgspec

from pointsman.ports.inspection import MailCount, Stray
from pointsman.stores.memory.inspection import MemoryInspection


class CutKeepsNothing(MemoryInspection):
    """What is moved away is gone."""

    caught_by = ("inspection.a_cut_puts_one_event_in_the_place_of_a_suffix",)

    async def cut(self, cut):
        done = await super().cut(cut)
        self._database.quarantined_events.clear()
        return done


class CutLeavesTheFeed(MemoryInspection):
    """The feed still shows what was moved away."""

    caught_by = ("inspection.a_cut_is_seen_in_the_feed",)

    async def cut(self, cut):
        before = list(self._database.feed)
        done = await super().cut(cut)
        self._database.feed[: len(before)] = before
        return done


class CutWithoutFence(MemoryInspection):
    """The epoch stays."""

    caught_by = ("inspection.a_cut_fences_the_owner",)

    async def cut(self, cut):
        row = self._database.runs.get(cut.run)
        done = await super().cut(cut)
        if done:
            row.epoch -= 1
        return done


class CutOfAnyHead(MemoryInspection):
    """Whatever the head is by now."""

    caught_by = ("inspection.a_cut_of_another_head_than_was_seen_does_nothing",)

    async def cut(self, cut):
        row = self._database.runs.get(cut.run)
        if row is not None:
            cut = msgspec.structs.replace(cut, epoch=row.epoch, sequence=len(row.events))
        return await super().cut(cut)


class CutForgetsMail(MemoryInspection):
    """What the suffix had folded stays folded."""

    caught_by = ("inspection.mail_of_a_suffix_is_read_again",)

    async def cut(self, cut):
        folded = self._database.runs[cut.run].folded
        return await super().cut(msgspec.structs.replace(cut, folded=folded))


class CutLeavesReservations(MemoryInspection):
    """They will be taken for those of other events."""

    caught_by = ("inspection.reservations_of_a_suffix_are_forgotten",)

    async def cut(self, cut):
        before = {tranche: set(rows) for tranche, rows in self._database.reservations.items()}
        done = await super().cut(cut)
        self._database.reservations.update(before)
        return done


class OwnedIsOrphaned(MemoryInspection):
    """Runs of the living, too; and those of the dead that have ended are none the less."""

    caught_by = ("inspection.the_runs_of_ended_incarnations_are_orphans",)

    async def orphans(self, *, runs=None, limit):
        return []


class RecountWithoutFence(MemoryInspection):
    """The owner goes on with the count that it knows."""

    caught_by = ("inspection.sound_mail_is_counted_right",)

    async def recount_mail(self, run, epoch):
        done = await super().recount_mail(run, epoch)
        if done:
            self._database.runs[run].epoch -= 1
        return done


class FoldedIsMiscounted(MemoryInspection):
    """A mail that was folded is taken for one that is not there."""

    caught_by = ("inspection.sound_mail_is_counted_right",)

    async def mail_counts(self, *, runs=None, limit):
        return [MailCount("run", 2, 0, 1, 2)]


class EverythingIsStray(MemoryInspection):
    """Rows that do belong to a run."""

    caught_by = ("inspection.a_sound_store_has_no_strays",)

    async def strays(self, *, limit):
        return [Stray("mail", "run", 1)]
