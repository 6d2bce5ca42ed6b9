"""Mutants of the feed."""

import asyncio

import msgspec

from pointsman.kernel.errors import PointsmanError
from pointsman.ports.event_log import Outcome
from pointsman.stores.memory.database import HeadRow
from pointsman.stores.memory.event_log import MemoryEventLog


class FeedSkipsLateCommits(MemoryEventLog):
    """Positions are drawn before the commit, and a reader goes past those still to come."""

    caught_by = ("feed.a_reader_beside_writers_misses_nothing",)

    async def append(self, batch, *, lane=0):
        await self._session.enter()
        feed = self._database.feed
        start = len(feed)
        results = self._commit(batch)
        fresh = feed[start:]
        feed[start:] = [None] * len(fresh)
        for _ in range(start % 5):
            await asyncio.sleep(0)
        feed[start : start + len(fresh)] = fresh
        return results

    async def feed(self, *, cursor=None, limit=1000):
        feed = self._database.feed
        kept, self._database.feed = feed, [item or ("", None) for item in feed]
        try:
            events, cursor = await super().feed(cursor=cursor, limit=limit)
        finally:
            self._database.feed = kept
        return [item for item in events if item.run], cursor


class FeedByRun(MemoryEventLog):
    """The feed sorts by run."""

    caught_by = ("feed.a_reader_beside_writers_misses_nothing",)

    async def feed(self, *, cursor=None, limit=1000):
        self._database.feed.sort(key=lambda item: (item[0], item[1].sequence))
        return await super().feed(cursor=cursor, limit=limit)


class EmptyFeedHasNoCursor(MemoryEventLog):
    """A feed without events gives no cursor."""

    caught_by = ("feed.an_empty_feed_gives_a_cursor",)

    async def feed(self, *, cursor=None, limit=1000):
        events, cursor = await super().feed(cursor=cursor, limit=limit)
        return events, cursor if events else ""


class FeedBackwards(MemoryEventLog):
    """The feed runs backwards."""

    caught_by = ("feed.the_feed_shows_events_as_streams_do",)

    async def feed(self, *, cursor=None, limit=1000):
        events, cursor = await super().feed(cursor=cursor, limit=limit)
        return events[::-1], cursor


class FeedFromTheStart(MemoryEventLog):
    """The feed starts again."""

    caught_by = ("feed.a_cursor_goes_on_where_it_was_given",)

    async def feed(self, *, cursor=None, limit=1000):
        events, _ = await super().feed(cursor=None, limit=limit)
        return events, cursor or "0"


class FeedTakesAnyCursor(MemoryEventLog):
    """The feed takes any cursor."""

    caught_by = ("feed.a_cursor_that_nobody_gave_is_refused",)

    async def feed(self, *, cursor=None, limit=1000):
        try:
            return await super().feed(cursor=cursor, limit=limit)
        except PointsmanError:
            return await super().feed(limit=limit)


class FeedShowsRefused(MemoryEventLog):
    """The feed shows the refused."""

    caught_by = (
        "feed.a_refused_append_is_not_in_the_feed",
        "fencing.a_stale_epoch_is_fenced",
    )

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if result.outcome is not Outcome.MOVED:
            row = HeadRow(item.run, item.create, b"{}", "", 0, 0, 0)
            self._move(row, msgspec.structs.replace(item, status="running"))
        return result
