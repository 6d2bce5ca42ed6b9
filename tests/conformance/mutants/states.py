"""Mutants of the typed states of runs."""

import msgspec

from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.inspection import MemoryInspection
from pointsman.stores.memory.states import MemoryStates


class OnlyTheFirstStateStands(MemoryDatabase):
    """ON CONFLICT DO NOTHING."""

    caught_by = ("states.an_append_sets_the_state",)

    def write_state(self, run, state):
        if state is None or not state.version or run not in self.states:
            super().write_state(run, state)


class RefusedAppendsSetTheState(MemoryEventLog):
    """The row is written whatever becomes of the head."""

    caught_by = (
        "states.a_refused_append_sets_no_state",
        "states.of_two_appends_the_one_that_moved_sets_the_state",
        "states.a_state_comes_with_families_tasks_and_reservations",
    )

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if item.state is not None:
            self._database.write_state(item.run, item.state)
        return result


class RedrivesLeaveTheState(MemoryEventLog):
    """What a redrive makes void still stands."""

    caught_by = ("states.a_redrive_sets_the_state_that_stands",)

    def _write_rows(self, row, item):
        super()._write_rows(row, msgspec.structs.replace(item, state=None) if item.redrives else item)


class NoStateStays(MemoryDatabase):
    """Where nothing stands, the row is left as it was."""

    caught_by = (
        "states.a_state_may_go_again",
        "states.a_cut_sets_the_state_that_stands",
        "states.a_state_is_written_again_where_its_head_stands",
    )

    def write_state(self, run, state):
        if state is not None and state.version:
            super().write_state(run, state)


class StatesThroughAFloat(MemoryStates):
    """A value is read and written again."""

    caught_by = ("states.a_state_comes_back_byte_for_byte",)

    async def of(self, runs):
        found = await super().of(runs)
        return {
            run: msgspec.structs.replace(row, value=msgspec.json.encode(msgspec.json.decode(row.value)))
            for run, row in found.items()
        }


class CutsLeaveTheState(MemoryInspection):
    """A repair forgets the row."""

    caught_by = ("states.a_cut_sets_the_state_that_stands",)

    async def cut(self, cut):
        before = self._database.states.get(cut.run)
        done = await super().cut(cut)
        self._database.write_state(cut.run, before)
        return done


class RewrittenWhereverTheHeadIs(MemoryStates):
    """A repair writes over what came meanwhile."""

    caught_by = ("states.a_state_is_written_again_where_its_head_stands",)

    async def rewrite(self, run, epoch, sequence, state):
        await self.of([run])
        self._database.write_state(run, state)
        return run in self._database.runs


class StatesOutliveTheirRuns(MemoryDatabase):
    """Retention leaves the row."""

    caught_by = ("states.a_state_goes_with_its_run",)

    def erase(self, runs):
        before = dict(self.states)
        super().erase(runs)
        self.states = before


class MailForgetsTheState(MemoryDatabase):
    """A mail that is taken touches the row."""

    caught_by = ("states.a_letter_sets_no_state",)

    def accept_mail(self, run, key, kind, body):
        number = super().accept_mail(run, key, kind, body)
        self.states.pop(run, None)
        return number
