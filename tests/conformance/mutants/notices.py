"""Mutants of notices. Those of the fence are with the human tasks: both are written together."""

import json

import msgspec

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Outcome
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.notices import MemoryNotices


class BodiesWrittenAnew(MemoryEventLog):
    """A body is read, and written in another way."""

    caught_by = ("notices.an_append_leaves_a_notice",)

    def _write_rows(self, row, item):
        told = [msgspec.structs.replace(one, body=json.dumps(json.loads(one.body)).encode()) for one in item.notices]
        super()._write_rows(row, msgspec.structs.replace(item, notices=tuple(told)))


class ToldWithoutMoving(MemoryEventLog):
    """Notices are written whatever became of the append."""

    caught_by = ("notices.a_refused_append_leaves_no_notice",)

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if result.outcome is not Outcome.MOVED:
            self._write_rows(None, msgspec.structs.replace(item, tasks=(), reservations=()))
        return result


class ToldAgain(MemoryEventLog):
    """The last body counts, and it is due at once."""

    caught_by = ("notices.what_is_said_again_is_one_notice",)

    def _write_rows(self, row, item):
        for told in item.notices:
            self._database.notices.pop(told.id, None)
        super()._write_rows(row, item)


class HeldForEver(MemoryNotices):
    """What was taken once is nobody else's."""

    caught_by = ("notices.what_is_not_settled_comes_again",)

    async def take(self, *, limit, hold_ms):
        return await super().take(limit=limit, hold_ms=10**9)


class NotHeld(MemoryNotices):
    """Whoever asks next gets it too."""

    caught_by = ("notices.an_append_leaves_a_notice", "notices.of_many_who_take_each_gets_others")

    async def take(self, *, limit, hold_ms):
        return await super().take(limit=limit, hold_ms=0)


class NothingIsSettled(MemoryNotices):
    """A notice stays when it was told."""

    caught_by = ("notices.what_is_not_settled_comes_again",)

    async def settle(self, notices):
        await self.take(limit=0, hold_ms=0)


class PostponedForNothing(MemoryNotices):
    """The time that it was held counts."""

    caught_by = ("notices.a_postponed_notice_waits",)

    async def postpone(self, notice, *, tries, delay_ms):
        await self.take(limit=0, hold_ms=0)


class TakingIsATry(MemoryNotices):
    """Also when nobody heard what was taken."""

    caught_by = ("notices.what_is_not_settled_comes_again",)

    async def take(self, *, limit, hold_ms):
        taken = await super().take(limit=limit, hold_ms=hold_ms)
        for notice in taken:
            entry = self._database.notices[notice.id]
            entry.notice = msgspec.structs.replace(notice, tries=notice.tries + 1)
        return taken


class EachPostponementIsATry(MemoryNotices):
    """Also one that is said again."""

    caught_by = ("notices.tries_are_what_a_postponement_says",)

    async def postpone(self, notice, *, tries, delay_ms):
        entry = self._database.notices.get(notice)
        tried = tries if entry is None else entry.notice.tries + 1
        await super().postpone(notice, tries=tried, delay_ms=delay_ms)


class IdsTrimmed(MemoryNotices):
    """An id without its blanks and quotes."""

    caught_by = ("notices.notices_may_have_any_text",)

    async def settle(self, notices):
        await super().settle([notice.strip(" '\"") for notice in notices])


class AnyIdIsAsked(MemoryNotices):
    """An id that no store can hold is none that is there."""

    caught_by = ("notices.what_no_store_can_hold_is_refused",)

    async def settle(self, notices):
        try:
            await super().settle(notices)
        except InvalidValue:
            return
