"""The duty of retention: the coordinator that has lived longest deletes runs that ended long ago, moves what is left in
buckets whose week is past, and drops these buckets.

A turn is a sequence of steps of the store, each complete in itself. If a turn stops, because of a crash or because the
store can't be reached, the next one goes on: what is left to do is always read from the store, never remembered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pointsman.coordinator.duties import keep
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.retention import Retention
from pointsman.ports.store import Store

DAY_MS = 24 * 3600 * 1000
IDLE_MOVES_MAX = 20
"""Times in a row that nothing could be moved out of a bucket before it is left for the next turn."""

logger = logging.getLogger("pointsman.retention")

Pause = Callable[[], Awaitable[None]]


@dataclass
class Turn:
    """The results of one turn. `left`: buckets that could not be emptied or dropped; the next turn tries again."""

    deleted: int = 0
    moved: int = 0
    dropped: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


async def take_turn(retention: Retention, before: int, *, batch: int, pause: Pause, turn: Turn | None = None) -> Turn:
    """Do everything that retention has to do now.

    Args:
        before: ms by the store's clock; runs that ended before it are deleted.
        batch: runs in one statement.
        pause: called between statements, so that others can use the database.
        turn: counted up as the turn goes on, for callers that want the counts even if it fails.

    Raises:
        StoreUnavailable.
    """
    turn = turn if turn is not None else Turn()
    past = await retention.past(before)
    while count := await retention.delete(before, limit=batch):
        turn.deleted += count
        await pause()
    for bucket in past:
        is_empty = await _empty(retention, bucket, batch, pause, turn)
        await pause()
        if is_empty and await retention.drop(bucket):
            turn.dropped.append(bucket)
        else:
            turn.left.append(bucket)
        await pause()
    return turn


async def _empty(retention: Retention, bucket: int, batch: int, pause: Pause, turn: Turn) -> bool:
    """Move what is left in a bucket. False: appends always came first."""
    idle = 0
    while idle < IDLE_MOVES_MAX:
        moved, left = await retention.move(bucket, limit=batch)
        turn.moved += moved
        if not left:
            return True
        idle = 0 if moved else idle + 1
        await pause()
    return False


class RetentionDuty:
    """A service: `start`, `stop`. Does nothing while `retention_days` is 0.

    Args:
        incarnation: this coordinator's; 0 while it has none.
    """

    def __init__(
        self, settings: CoordinatorSettings, store: Store, stats: Stats, incarnation: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._store = store
        self._stats = stats
        self._incarnation = incarnation
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._settings.retention_days:
            self._task = asyncio.create_task(keep(self._retain, self._settings.retention_every_s), name="retention")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _retain(self) -> None:
        while True:
            await asyncio.sleep(self._settings.retention_every_s)
            if await self._is_our_turn():
                await self._take_turn()

    async def _is_our_turn(self) -> bool:
        """Whether this coordinator is the oldest living one. Two that think so for a moment do no harm."""
        members = await self._store.liveness.members()
        return bool(members) and members[0].incarnation == self._incarnation()

    async def _take_turn(self) -> None:
        settings, turn = self._settings, Turn()
        before = self._store.clock.now() - settings.retention_days * DAY_MS
        try:
            await take_turn(self._store.retention, before, batch=settings.retention_batch, pause=self._rest, turn=turn)
        finally:
            self._stats.runs_deleted += turn.deleted
            self._stats.runs_moved += turn.moved
            self._stats.buckets_dropped += len(turn.dropped)
        if turn.deleted or turn.moved or turn.dropped:
            logger.info(
                "retention: %d runs deleted, %d moved; buckets dropped: %s", turn.deleted, turn.moved, turn.dropped
            )
        if turn.left:
            logger.warning("retention: buckets %s could not be dropped yet; the next turn tries again", turn.left)

    async def _rest(self) -> None:
        await asyncio.sleep(self._settings.retention_pause_ms / 1000)
