"""Mutants of ownership: claims, takeovers and hand-overs."""

import msgspec

from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.ownership import MemoryOwnership


class NoEpochRaise(MemoryOwnership):
    """A claim raises no epoch."""

    caught_by = (
        "ownership.a_claim_raises_the_epoch_by_one",
        "fencing.a_stale_epoch_is_fenced",
    )

    def _claim(self, row, owner, builds):
        row.epoch -= 1
        return super()._claim(row, owner, builds)


class EpochRaisedTwice(MemoryOwnership):
    """A claim raises the epoch twice."""

    caught_by = ("ownership.a_claim_raises_the_epoch_by_one",)

    def _claim(self, row, owner, builds):
        row.epoch += 1
        return super()._claim(row, owner, builds)


class AnyTimeIsDue(MemoryOwnership):
    """Every run is due."""

    caught_by = ("ownership.only_due_runs_are_claimed",)

    def _is_due(self, row, builds):
        wake_at, row.wake_at = row.wake_at, 1
        due = super()._is_due(row, builds)
        row.wake_at = wake_at
        return due


class FarIsDue(MemoryOwnership):
    """Far timers are due."""

    caught_by = (
        "ownership.only_due_runs_are_claimed",
        "ownership.a_timer_comes_due_by_itself",
    )

    def _is_due(self, row, builds):
        wake_at = row.wake_at
        row.wake_at = 1 if wake_at is not None else None
        due = super()._is_due(row, builds)
        row.wake_at = wake_at
        return due


class TimersNeverCome(MemoryOwnership):
    """Timers never come due."""

    caught_by = ("ownership.a_timer_comes_due_by_itself",)

    def _is_due(self, row, builds):
        return super()._is_due(row, builds) and row.wake_at < row.updated_at


class OwnedIsDue(MemoryOwnership):
    """Owned runs are due."""

    caught_by = (
        "ownership.only_due_runs_are_claimed",
        "ownership.a_claim_can_name_its_runs",
    )

    def _is_due(self, row, builds):
        owner, row.owner = row.owner, None
        due = super()._is_due(row, builds) or owner is not None
        row.owner = owner
        return due


class NoLimit(MemoryOwnership):
    """No limit."""

    caught_by = ("ownership.a_claim_takes_no_more_than_asked",)

    async def claim_due(self, owner, definitions, *, limit, runs=None):
        return await super().claim_due(owner, definitions, limit=1_000, runs=runs)


class RunsIgnored(MemoryOwnership):
    """Named runs ignored."""

    caught_by = ("ownership.a_claim_can_name_its_runs",)

    async def claim_due(self, owner, definitions, *, limit, runs=None):
        return await super().claim_due(owner, definitions, limit=limit)


class AnyDefinition(MemoryOwnership):
    """Any definition."""

    caught_by = ("ownership.only_known_definitions_are_claimed",)

    def _is_due(self, row, builds):
        builds.setdefault((row.new.workflow, row.new.version), "build-1")
        return super()._is_due(row, builds)


class StoppedForAnyBuild(MemoryOwnership):
    """Stopped for any build."""

    caught_by = ("ownership.stopped_is_due_for_another_build",)

    def _is_due(self, row, builds):
        build, row.build = row.build, ""
        due = super()._is_due(row, builds)
        row.build = build
        return due


class StoppedForNobody(MemoryOwnership):
    """Stopped for nobody."""

    caught_by = ("ownership.stopped_is_due_for_another_build",)

    def _is_due(self, row, builds):
        return super()._is_due(row, builds) and row.status != "stopped"


class BuildNotRecorded(MemoryOwnership):
    """The claimer's build not recorded."""

    caught_by = ("ownership.stopped_is_due_for_another_build",)

    def _claim(self, row, owner, builds):
        build = row.build
        super()._claim(row, owner, builds)
        row.build = build
        return row.head()


class QuarantinedIsDue(MemoryOwnership):
    """Quarantined is due."""

    caught_by = (
        "ownership.quarantined_is_never_claimed",
        "mailbox.a_held_back_run_takes_mail",
    )

    def _is_due(self, row, builds):
        status, row.status = row.status, "running"
        due = super()._is_due(row, builds)
        row.status = status
        return due


class QuarantinedIsOrphan(MemoryOwnership):
    """Quarantined is an orphan."""

    caught_by = ("ownership.quarantined_is_never_claimed",)

    def _is_orphan(self, row, builds):
        status, row.status = row.status, "running"
        orphan = super()._is_orphan(row, builds)
        row.status = status
        return orphan


class EndedIsDue(MemoryEventLog):
    """Ended runs are due."""

    caught_by = (
        "ownership.ended_runs_are_never_claimed",
        "mailbox.an_ended_run_takes_no_mail",
        "append.created_and_ended_at_once",
    )

    def _move(self, row, item):
        super()._move(row, item)
        if row.ended_at is not None:
            self._database.open_runs[row.id] = row
            row.wake_at = 1


class AnyoneMayClaim(MemoryOwnership):
    """The ended may claim."""

    caught_by = ("ownership.an_ended_incarnation_claims_nothing",)

    def _may_claim(self, owner):
        return True


class AllAreOrphans(MemoryOwnership):
    """All owned runs are orphans."""

    caught_by = ("ownership.only_orphans_are_taken_over",)

    def _is_orphan(self, row, builds):
        return row.owner is not None and (row.new.workflow, row.new.version) in builds


class ParkedAreOrphans(MemoryOwnership):
    """Parked runs are orphans."""

    caught_by = ("ownership.only_orphans_are_taken_over",)

    def _is_orphan(self, row, builds):
        return super()._is_orphan(row, builds) or row.owner is None


class TakeoversNotCounted(MemoryOwnership):
    """Takeovers not counted."""

    caught_by = (
        "ownership.takeovers_are_counted_until_the_next_append",
        "trials.a_suspect_is_not_taken_over_with_the_others",
        "races.orphans_go_to_one_heir_each",
    )

    def _claim(self, row, owner, builds):
        row.takeovers = 0
        return super()._claim(row, owner, builds)


class TakeoversNotCleared(MemoryEventLog):
    """Takeovers not cleared."""

    caught_by = ("ownership.takeovers_are_counted_until_the_next_append",)

    def _move(self, row, item):
        takeovers = row.takeovers
        super()._move(row, item)
        row.takeovers = takeovers


class NotesClearOfSuspicion(MemoryEventLog):
    """Every append is progress."""

    caught_by = ("trials.what_only_notes_is_no_progress",)

    def _move(self, row, item):
        super()._move(row, item)
        row.takeovers = 0


class NobodyIsSuspected(MemoryOwnership):
    """All orphans are taken over together, however many died with them."""

    caught_by = (
        "trials.a_suspect_is_not_taken_over_with_the_others",
        "ownership.takeovers_are_counted_until_the_next_append",
    )

    def _is_suspect(self, row):
        return False


class AllAreSuspects(MemoryOwnership):
    """Who died with a suspect is one, too."""

    caught_by = ("trials.a_death_during_a_trial_is_the_suspects_alone",)

    def _culprits(self, owner):
        return frozenset()


class TrialsNeverEnd(MemoryOwnership):
    """A trial goes on."""

    caught_by = ("trials.a_death_after_a_trial_is_nobodys_alone",)

    async def end_trial(self, owner):
        await self._session.enter()


class WhoGotOnIsGuilty(MemoryOwnership):
    """A run that has appended is still to blame."""

    caught_by = ("trials.a_death_after_a_trial_is_nobodys_alone",)

    def _is_guilty(self, row):
        return True


class JudgedAgain(MemoryOwnership):
    """Who is to blame is told by what is left of those that died with it."""

    caught_by = ("trials.who_is_claimed_first_makes_nobody_guilty",)

    def _culprits(self, owner):
        incarnation = self._database.incarnations[owner]
        incarnation.is_judged = False
        return super()._culprits(owner)


class AllTriedAreGuilty(WhoGotOnIsGuilty):
    """Of those tried together, one that has appended is still to blame."""

    caught_by = ("trials.of_those_tried_together_who_got_on_is_not_to_blame",)


class GuiltyFirst(MemoryOwnership):
    """Those with most deaths are tried first."""

    caught_by = ("trials.those_with_fewest_deaths_are_tried_first",)

    def _tried_next(self, suspects, together):
        most = max((row.takeovers for row in suspects), default=1)
        return super()._tried_next([row for row in suspects if row.takeovers == most], together)


class AllTogether(MemoryOwnership):
    """However many deaths they have behind them."""

    caught_by = ("trials.suspects_with_equally_many_deaths_are_tried_together",)

    def _tried_next(self, suspects, together):
        return super()._tried_next(suspects, together[:1])


class UnlikeTogether(MemoryOwnership):
    """Those with few deaths, and those with many."""

    caught_by = ("trials.those_with_fewest_deaths_are_tried_first",)

    def _tried_next(self, suspects, together):
        fewest = min((row.takeovers for row in suspects), default=1)
        ordered = sorted(suspects, key=lambda row: (row.takeovers, row.id))
        return ordered[: max(together[min(fewest, len(together)) - 1], 2)]


class TheDeadTry(MemoryOwnership):
    """An ended incarnation begins and ends trials."""

    caught_by = ("trials.the_ended_try_nobody",)

    def _may_claim(self, owner):
        return True


class TheDeadEndTrials(MemoryOwnership):
    """A trial that ended in a death is ended again."""

    caught_by = ("trials.the_ended_try_nobody",)

    async def end_trial(self, owner):
        await self._session.enter()
        self._database.incarnations[owner].trial = frozenset()


class VictimsAreForgotten(MemoryOwnership):
    """Nobody died on trial."""

    caught_by = ("trials.a_death_during_a_trial_is_the_suspects_alone",)

    def _tried(self, run):
        return []


class ReleasesAnything(MemoryOwnership):
    """A release of what is not held back."""

    caught_by = ("trials.a_released_run_is_due_and_forgiven",)

    async def release(self, run):
        row = self._database.open_runs.get(run)
        if row is not None:
            row.status = "quarantined"
        return await super().release(run)


class ReleasedUnderSuspicion(MemoryOwnership):
    """A released run keeps its deaths."""

    caught_by = ("trials.a_released_run_is_due_and_forgiven",)

    async def release(self, run):
        row = self._database.open_runs.get(run)
        takeovers = row.takeovers + 1 if row is not None else 0
        released = await super().release(run)
        if row is not None:
            row.takeovers = takeovers
        return released


class NoneLeft(MemoryOwnership):
    """None left."""

    caught_by = ("ownership.orphans_left_are_counted",)

    async def claim_orphans(self, owner, definitions, *, limit):
        heads, _ = await super().claim_orphans(owner, definitions, limit=limit)
        return heads, 0


class UnknownVersionsLeft(MemoryOwnership):
    """Unknown versions left."""

    caught_by = ("ownership.orphans_left_are_counted",)

    async def claim_orphans(self, owner, definitions, *, limit):
        heads, left = await super().claim_orphans(owner, definitions, limit=limit)
        living = self._database.is_living
        return heads, left + sum(row.new.version == 2 and not living(row.owner) for row in self._open(None))


class OwnedIsOnlyWhatWasCreated(MemoryOwnership):
    """A run that was claimed is not shown."""

    caught_by = ("ownership.owned_shows_what_a_lost_reply_hid",)

    async def owned(self, owner):
        rows = [self._database.runs[run] for run in await super().owned(owner)]
        return {row.id: row.epoch for row in rows if row.events[-1].epoch == row.epoch}


class HandedOverIsNotDue(MemoryOwnership):
    """Handed over, not due."""

    caught_by = ("ownership.handed_over_is_due_at_once",)

    async def hand_over(self, owner, runs):
        before = [row for row in self._open([*runs]) if row.owner == owner]
        count = await super().hand_over(owner, runs)
        for row in before:
            row.wake_at = None
        return count


class HandsOverOthers(MemoryOwnership):
    """Hands over the runs of others."""

    caught_by = ("ownership.handed_over_is_due_at_once",)

    async def hand_over(self, owner, runs):
        for row in self._open([*runs]):
            row.owner = owner
        return await super().hand_over(owner, runs)


class HandsOverAll(MemoryOwnership):
    """Hands over all."""

    caught_by = ("ownership.handed_over_is_due_at_once",)

    async def hand_over(self, owner, runs):
        return await super().hand_over(owner, await self.owned(owner))


class WakesParkedRuns(MemoryOwnership):
    """Handing over wakes parked runs."""

    caught_by = ("ownership.handing_over_spares_ended_and_parked_runs",)

    async def hand_over(self, owner, runs):
        count = await super().hand_over(owner, runs)
        for row in self._open([*runs]):
            row.wake_at = 1
        return count


class HandsOverUnderAnyEpoch(MemoryOwnership):
    """The owner's number is enough."""

    caught_by = ("ownership.what_was_lost_meanwhile_is_not_handed_over",)

    async def hand_over(self, owner, runs):
        return await super().hand_over(owner, {row.id: row.epoch for row in self._open([*runs])})


class SelectsThenClaims(MemoryOwnership):
    """Chooses, lets others in, and then writes: a claim without SKIP LOCKED and without a second look."""

    caught_by = ("races.claimers_get_disjoint_runs",)

    async def claim_due(self, owner, definitions, *, limit, runs=None):
        builds = {(item.workflow, item.version): item.build for item in definitions}
        chosen = [row for row in self._open(runs) if self._is_due(row, builds)][:limit]
        await self._session.enter()
        return [self._claim(row, owner, builds) for row in chosen]


class SelectsThenTakesOver(MemoryOwnership):
    """Selects, then takes over."""

    caught_by = ("races.orphans_go_to_one_heir_each",)

    async def claim_orphans(self, owner, definitions, *, limit):
        builds = {(item.workflow, item.version): item.build for item in definitions}
        chosen = [row for row in self._open(None) if self._is_orphan(row, builds)][:limit]
        await self._session.enter()
        for row in chosen:
            row.takeovers += 1
        return [self._claim(row, owner, builds) for row in chosen], len(chosen)


class StrandedCountsEnded(MemoryOwnership):
    """Ended runs are stranded."""

    caught_by = ("ownership.stranded_names_the_versions_nobody_has",)

    async def stranded(self, definitions):
        kept, self._database.open_runs = self._database.open_runs, self._database.runs
        try:
            return await super().stranded(definitions)
        finally:
            self._database.open_runs = kept


class StrandedForgetsParked(MemoryOwnership):
    """Parked runs are never stranded."""

    caught_by = ("ownership.stranded_names_the_versions_nobody_has",)

    async def stranded(self, definitions):
        found = await super().stranded(definitions)
        parked = [row.new.version for row in self._open(None) if row.status == "parked"]
        return [item for item in found if item.version not in parked]


class ClaimForgetsTheStatus(MemoryOwnership):
    """A claim keeps the status."""

    caught_by = ("ownership.a_claim_raises_the_epoch_by_one",)

    def _claim(self, row, owner, builds):
        status = row.status
        super()._claim(row, owner, builds)
        row.status = status
        return row.head()


class ClaimTellsOldHead(MemoryOwnership):
    """A claim tells the old owner."""

    caught_by = ("ownership.a_claim_raises_the_epoch_by_one",)

    def _claim(self, row, owner, builds):
        return msgspec.structs.replace(super()._claim(row, owner, builds), owner=None)
