"""Mutants of the system log."""

import asyncio
import json
from fnmatch import fnmatchcase

import msgspec

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.system_log import EVENTS_KEPT
from pointsman.stores.memory import system_log
from pointsman.stores.memory.session import Session
from pointsman.stores.memory.system_log import MemorySystemLog


class StateOfTheFirst(MemorySystemLog):
    """A stream's state stays what it was made with."""

    caught_by = ("system_log.a_stream_is_made_and_moves_with_its_state",)

    def _append(self, stream, expected, events, state):
        row = self._database.system.get(stream)
        return super()._append(stream, expected, events, row.state if row else state)


class NoExpectedSequence(MemorySystemLog):
    """Whatever was expected, it is appended."""

    caught_by = (
        "system_log.a_wrong_expected_sequence_does_nothing",
        "system_log.of_two_appenders_one_wins",
    )

    def _append(self, stream, expected, events, state):
        row = self._database.system.get(stream)
        return super()._append(stream, row.sequence if row else 0, events, state)


class OnlyTheStaleAreTold(MemorySystemLog):
    """An expected sequence ahead of the stream's is let through."""

    caught_by = ("system_log.a_wrong_expected_sequence_does_nothing",)

    def _append(self, stream, expected, events, state):
        row = self._database.system.get(stream)
        return super()._append(stream, min(expected, row.sequence if row else 0), events, state)


class EventsOfTheLoser(MemorySystemLog):
    """The head stays, and the events are there."""

    caught_by = ("system_log.a_wrong_expected_sequence_does_nothing",)

    def _append(self, stream, expected, events, state):
        try:
            return super()._append(stream, expected, events, state)
        except system_log.WrongExpectedSequence:
            row = self._database.system.get(stream)
            if row:
                row.events.append(msgspec.structs.replace(row.events[-1], sequence=row.sequence + 1))
            raise


class LooksThenAppends(MemorySystemLog):
    """What a check outside the statement is."""

    caught_by = ("system_log.of_two_appenders_one_wins",)

    async def append(self, stream, expected, events, state):
        row = self._database.system.get(stream)
        if (row.sequence if row else 0) != expected:
            raise system_log.WrongExpectedSequence
        await asyncio.sleep(0)
        row = self._database.system.get(stream)
        return await super().append(stream, row.sequence if row else 0, events, state)


class EmptyAppendsPass(MemorySystemLog):
    """An append without events sets the state."""

    caught_by = ("system_log.an_append_without_events_is_refused",)

    async def append(self, stream, expected, events, state):
        if not events:
            return self._append(stream, expected, events, state)
        return await super().append(stream, expected, events, state)


class OneStateForAll(MemorySystemLog):
    """An UPDATE without its WHERE."""

    caught_by = ("system_log.streams_do_not_touch_each_other",)

    def _append(self, stream, expected, events, state):
        head = super()._append(stream, expected, events, state)
        for row in self._database.system.values():
            row.state = state
        return head


class PrefixIsAPattern(MemorySystemLog):
    """A prefix that is handed to LIKE."""

    caught_by = ("system_log.heads_are_listed_by_prefix_and_name",)

    def _of(self, prefix):
        pattern = prefix.replace("%", "*").replace("_", "?") + "*"
        return [row for stream, row in self._database.system.items() if fnmatchcase(stream, pattern)]


class PrefixEndsAtALetter(MemorySystemLog):
    """A prefix as a range up to an ordinary character."""

    caught_by = ("system_log.heads_are_listed_by_prefix_and_name",)

    def _of(self, prefix):
        return [row for name, row in self._database.system.items() if prefix <= name < prefix + "\uffff"]


class HeadsInOrderOfMaking(MemorySystemLog):
    """Heads in the order in which their streams were made."""

    caught_by = ("system_log.heads_are_listed_by_prefix_and_name",)

    async def heads(self, prefix, *, after="", limit=1000):
        await self._session.enter()
        return [row.head() for row in self._of(prefix) if row.stream > after][:limit]


class ChangesOfEverybody(MemorySystemLog):
    """Changes of any prefix."""

    caught_by = ("system_log.changes_are_told_once_they_are_there",)

    async def changes(self, prefix, *, cursor=None):
        return await super().changes("", cursor=cursor)


class OnlyNewStreamsChange(MemorySystemLog):
    """A stream that moved is no change."""

    caught_by = (
        "system_log.changes_are_told_once_they_are_there",
        "system_log.a_reader_beside_appenders_misses_no_change",
    )

    def _append(self, stream, expected, events, state):
        known = self._database.system.get(stream)
        changed = known.changed if known else 0
        head = super()._append(stream, expected, events, state)
        row = self._database.system[stream]
        row.changed = changed or row.changed
        return head


class ChangesFromTheStart(MemorySystemLog):
    """A cursor means nothing."""

    caught_by = ("system_log.changes_come_to_an_end",)

    async def changes(self, prefix, *, cursor=None):
        await super().changes(prefix, cursor=cursor)
        return await super().changes(prefix)


class ChangesSkipLateCommits(MemorySystemLog):
    """A change draws its place before it can be seen, and readers go past it."""

    caught_by = ("system_log.a_reader_beside_appenders_misses_no_change",)

    async def append(self, stream, expected, events, state):
        head = await super().append(stream, expected, events, state)
        row = self._database.system[stream]
        row.changed, place = 0, row.changed
        for _ in range(len(state) % 7):
            await asyncio.sleep(0)
        row.changed = place
        return head


class ChangesTakeAnyCursor(MemorySystemLog):
    """Changes take any cursor."""

    caught_by = ("system_log.a_cursor_that_nobody_gave_is_refused",)

    async def changes(self, prefix, *, cursor=None):
        try:
            return await super().changes(prefix, cursor=cursor)
        except InvalidValue:
            return await super().changes(prefix)


class TooFewAreKept(MemorySystemLog):
    """Everything is cut at once when there is much of it."""

    caught_by = ("system_log.the_latest_events_are_kept",)

    def _append(self, stream, expected, events, state):
        head = super()._append(stream, expected, events, state)
        row = self._database.system[stream]
        if len(row.events) == EVENTS_KEPT:
            del row.events[:-100]
        return head


class PagesByPlace(MemorySystemLog):
    """`after` counts the events that are left out, `limit` those that are left over."""

    caught_by = ("system_log.events_are_read_in_pages",)

    async def read(self, stream, *, after=0, limit=1000):
        return (await super().read(stream))[after : max(limit, after)]


class StatesRewritten(MemorySystemLog):
    """As a `jsonb` column does."""

    caught_by = ("system_log.what_is_kept_comes_back_byte_for_byte",)

    def _append(self, stream, expected, events, state):
        return super()._append(stream, expected, events, json.dumps(json.loads(state)).encode())


class SystemBodiesCut(MemorySystemLog):
    """Bodies without their tails."""

    caught_by = ("system_log.what_is_kept_comes_back_byte_for_byte",)

    def _append(self, stream, expected, events, state):
        events = [msgspec.structs.replace(event, body=event.body.partition(b"\n")[0]) for event in events]
        return super()._append(stream, expected, events, state)


class AnyStateIsTaken(MemorySystemLog):
    """A state that is no JSON is taken."""

    caught_by = ("system_log.what_no_store_can_hold_is_refused",)

    async def append(self, stream, expected, events, state):
        try:
            return await super().append(stream, expected, events, state)
        except InvalidValue:
            await Session.enter(self._session)
            return self._append(stream, expected, events, state)
