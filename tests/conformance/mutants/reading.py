"""Mutants of reads that end by bytes."""

from pointsman.stores.memory.event_log import MemoryEventLog


class NoBytesCounted(MemoryEventLog):
    """Only the number of events ends a page."""

    caught_by = (
        "reading.a_page_ends_behind_the_event_that_reaches_its_bytes",
        "reading.runs_that_are_read_together_share_the_bytes",
        "reading.large_bodies_end_a_page_too",
    )

    def _page(self, run, after, limit, left):
        return super()._page(run, after, limit, float("inf"))


class NothingTooLarge(MemoryEventLog):
    """A page ends before the event that would reach its bytes: an event larger than that never comes."""

    caught_by = (
        "reading.a_page_ends_behind_the_event_that_reaches_its_bytes",
        "reading.runs_that_are_read_together_share_the_bytes",
        "reading.what_a_page_leaves_is_told_by_its_bytes",
    )

    def _page(self, run, after, limit, left):
        page, over = super()._page(run, after, limit, left)
        return (page, over) if over > 0 else (page[:-1], over)


class MoreThanItsBody(MemoryEventLog):
    """An event counts with what it has beside its body: the page is shorter than its reader can tell."""

    caught_by = (
        "reading.a_page_ends_behind_the_event_that_reaches_its_bytes",
        "reading.what_a_page_leaves_is_told_by_its_bytes",
    )

    def _page(self, run, after, limit, left):
        page, _ = super()._page(run, after, limit, float("inf"))
        for n, event in enumerate(page):
            if left <= 0:
                return page[:n], left
            left -= len(event.body) + len(event.type)
        return page, left


class BytesForEachRun(MemoryEventLog):
    """Each run has the whole limit for itself."""

    caught_by = (
        "reading.runs_that_are_read_together_share_the_bytes",
        "reading.large_bodies_end_a_page_too",
    )

    async def read_many(self, after, *, limit, bytes_max=None):
        return {
            run: await self.read(run, after=first, limit=limit, bytes_max=bytes_max) for run, first in after.items()
        }


class OneEventOfEachRun(MemoryEventLog):
    """A run that nothing is left for brings one event all the same."""

    caught_by = ("reading.runs_that_are_read_together_share_the_bytes",)

    def _page(self, run, after, limit, left):
        return super()._page(run, after, limit, max(left, 1))


class LeftOutWhereNothingIsLeft(MemoryEventLog):
    """Runs behind the end are not in the answer."""

    caught_by = ("reading.runs_that_are_read_together_share_the_bytes",)

    async def read_many(self, after, *, limit, bytes_max=None):
        read = await super().read_many(after, limit=limit, bytes_max=bytes_max)
        return read if bytes_max is None else {run: events for run, events in read.items() if events}
