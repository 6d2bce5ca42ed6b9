"""Mutants of listings."""

import msgspec

from pointsman.kernel.errors import PointsmanError
from pointsman.ports.event_log import RunFilter
from pointsman.stores.memory.event_log import MemoryEventLog


class OldestFirst(MemoryEventLog):
    """Oldest first."""

    caught_by = ("listing.newest_come_first",)

    async def list_runs(self, where, *, limit=50, cursor=None):
        heads, cursor = await super().list_runs(where, limit=limit, cursor=cursor)
        return heads[::-1], cursor


class FilterIgnored(MemoryEventLog):
    """Status ignored."""

    caught_by = ("listing.runs_are_listed_by_status",)

    ignored = "status"

    async def list_runs(self, where, *, limit=50, cursor=None):
        where = msgspec.structs.replace(where, **{self.ignored: getattr(RunFilter(), self.ignored)})
        return await super().list_runs(where, limit=limit, cursor=cursor)


class WorkflowIgnored(FilterIgnored):
    """Workflow ignored."""

    caught_by = ("listing.runs_are_listed_by_workflow_and_tenant",)

    ignored = "workflow"


class TenantIgnored(FilterIgnored):
    """Tenant ignored."""

    caught_by = ("listing.runs_are_listed_by_workflow_and_tenant",)

    ignored = "tenant"


class AttributesIgnored(FilterIgnored):
    """Attributes ignored."""

    caught_by = (
        "listing.runs_are_listed_by_attributes",
        "listing.hostile_filters_are_only_data",
        "listing.what_no_store_can_hold_is_an_invalid_filter",
    )

    ignored = "attributes"


class CursorIsAnOffset(MemoryEventLog):
    """A cursor is an offset."""

    caught_by = ("listing.pages_are_complete_and_do_not_overlap",)

    async def list_runs(self, where, *, limit=50, cursor=None):
        heads, _ = await super().list_runs(where, limit=10_000)
        first = int(cursor or 0)
        return heads[first : first + limit], str(first + limit) if len(heads) > first + limit else None


class CursorForgetsTheFilter(MemoryEventLog):
    """A cursor forgets the filter."""

    caught_by = ("listing.pages_keep_their_filter",)

    async def list_runs(self, where, *, limit=50, cursor=None):
        return await super().list_runs(where if cursor is None else RunFilter(), limit=limit, cursor=cursor)


class CursorIsATimeAlone(MemoryEventLog):
    """A cursor is a time."""

    caught_by = ("listing.pages_are_complete_and_do_not_overlap",)

    async def list_runs(self, where, *, limit=50, cursor=None):
        heads, _ = await super().list_runs(where, limit=10_000)
        rest = [head for head in heads if cursor is None or head.created_at < int(cursor)]
        return rest[:limit], str(rest[limit - 1].created_at) if len(rest) > limit else None


class ListingTakesAnyCursor(MemoryEventLog):
    """Listing takes any cursor."""

    caught_by = ("listing.a_cursor_that_nobody_gave_is_refused",)

    async def list_runs(self, where, *, limit=50, cursor=None):
        try:
            return await super().list_runs(where, limit=limit, cursor=cursor)
        except PointsmanError:
            return [], None
