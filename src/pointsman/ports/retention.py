"""Retention: what is old enough leaves the store, a few rows at a time, and nothing that is wanted goes with it.

A run belongs to the *bucket* of the week in which it started; its events lie with it. A run is deleted when it ended
before a cut, no child of it is left, and its parent (if it is there) ended before the cut too. What is left in a bucket
whose week is past then moves to the current one, and the empty bucket is dropped with the events of deleted runs.

Obligations, each with a case in the conformance suite:
- a run goes as a whole: head, mail, human tasks, reservations; from then on its id is free;
- an open run is never deleted, nor are its children; neither is a run with children that are kept; judged as they are
  when the deletion is made, for a failed run may be redriven at any time;
- the parent of a deleted run gets a new epoch: a redrive that was decided while its child was there does not move;
- a run moves as a whole: head and events in one step, while its owner appends, and nothing else of it changes;
- a bucket in which a run is left is not dropped;
- the feed shows every event of a kept run once, before and after it moved, and none of a deleted one; old cursors hold.

Each step is whole in itself, so whoever comes next may go on after any of them, and two may take steps at once.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

BUCKET_MS: Final = 7 * 24 * 3600 * 1000
"""Runs that start in the same week share a bucket."""


class Bucket(msgspec.Struct, frozen=True):
    """What a bucket holds.

    Attributes:
        oldest_open: ms at which the oldest open run in it was made; None: there is none.
        size: bytes that its events take up, as far as the store can tell.
    """

    number: int
    runs: int
    open_runs: int
    oldest_open: int | None
    size: int

    @property
    def starts_at(self) -> int:
        return self.number * BUCKET_MS

    @property
    def ends_at(self) -> int:
        return self.starts_at + BUCKET_MS


class Retention(Protocol):
    """Deletes old runs in small steps. Every method raises `StoreUnavailable` if the store can't be reached."""

    async def buckets(self) -> list[Bucket]:
        """All buckets, oldest first. Counts every run: for people, not to be called every second."""
        ...

    async def past(self, before: int) -> list[int]:
        """The buckets whose whole week lies before `before` (ms, the store's clock), oldest first."""
        ...

    async def delete(self, before: int, *, limit: int) -> int:
        """Delete at most `limit` runs that ended before this time, and return how many. Repeat until it returns 0:
        deleting a run may free its parent for deletion.
        """
        ...

    async def move(self, bucket: int, *, limit: int) -> tuple[int, int]:
        """Move at most `limit` runs out of a bucket into the current one. Returns how many moved, and how many are
        left.

        A run that is being appended to at this moment stays for the next time.
        """
        ...

    async def drop(self, bucket: int) -> bool:
        """Drop an empty bucket. Returns False if it holds a run, or somebody else is dropping or reading it.

        Raises:
            ValueError: runs still start in this bucket.
        """
        ...
