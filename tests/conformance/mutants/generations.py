"""Mutants of generations and redrives."""

import msgspec

from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.inspection import MemoryInspection


class ForgetsTheBase(MemoryEventLog):
    """Whoever loads the run would read all of it."""

    caught_by = ("generations.a_generation_begins_where_its_event_is",)

    def _move(self, row, item):
        super()._move(row, msgspec.structs.replace(item, base=0))


class BaseOfEveryAppend(MemoryEventLog):
    """An append without a new generation moves the base back."""

    caught_by = ("generations.a_generation_begins_where_its_event_is",)

    def _move(self, row, item):
        super()._move(row, item)
        row.base = item.base or 1


class CountsOneGeneration(MemoryEventLog):
    """However many an append begins."""

    caught_by = ("generations.generations_of_one_append_are_counted",)

    def _move(self, row, item):
        super()._move(row, msgspec.structs.replace(item, generations=min(item.generations, 1)))


class CutsAndKeepsTheBase(MemoryInspection):
    """A loader would begin behind the end of what is left."""

    caught_by = ("generations.a_cut_takes_generations_with_it",)

    async def cut(self, cut):
        row = self._database.runs[cut.run]
        before = row.base, row.generation
        done = await super().cut(cut)
        row.base, row.generation = before
        return done


class KeepsTheEpoch(MemoryEventLog):
    """A redrive does not raise the epoch: the second one is not told apart."""

    caught_by = (
        "generations.a_failed_run_is_redriven",
        "generations.of_two_redrives_one_wins",
        "generations.a_redrive_beside_others_moves_alone",
    )

    def _move(self, row, item):
        super()._move(row, item)
        row.epoch -= item.redrives


class RedrivesAnything(MemoryEventLog):
    """Whatever state the run is in."""

    caught_by = ("generations.only_a_failed_run_is_redriven", "generations.a_redrive_beside_others_moves_alone")

    def _refuse_move(self, row, item):
        if row is None or not item.redrives:
            return super()._refuse_move(row, item)
        status, row.status = row.status, "failed"
        try:
            return super()._refuse_move(row, item)
        finally:
            row.status = status


class RedrivesFromAnySequence(MemoryEventLog):
    """Also what has failed again since."""

    caught_by = ("generations.a_redrive_of_an_older_failure_is_fenced",)

    def _refuse_move(self, row, item):
        known = row is not None and item.redrives
        return super()._refuse_move(row, msgspec.structs.replace(item, expected=len(row.events)) if known else item)


class StaysEnded(MemoryEventLog):
    """The run is redriven, and takes no mail."""

    caught_by = ("generations.a_failed_run_is_redriven",)

    def _move(self, row, item):
        ended_at = row.ended_at
        super()._move(row, item)
        row.ended_at = row.ended_at or ended_at


class ForgetsTheNonce(MemoryEventLog):
    """What became of a redrive can't be found out."""

    caught_by = ("generations.a_redrive_whose_reply_was_lost_is_found",)

    def _move(self, row, item):
        super()._move(row, msgspec.structs.replace(item, nonce=bytes(8)) if item.redrives else item)
