"""Typed states on Redis: see `ports/states.py` for what it promises. Appends write them."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.ports.states import StateRow
from pointsman.stores.redis import rows
from pointsman.stores.redis.event_log import state_item
from pointsman.stores.redis.session import Blobs, Session


class RedisStates:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def of(self, runs: Sequence[str]) -> dict[str, StateRow]:
        return {run.decode(): rows.state(raw) for run, raw in await self._session.call("states.of", runs=list(runs))}

    async def rewrite(self, run: str, epoch: int, sequence: int, state: StateRow) -> bool:
        blobs = Blobs()
        item = state_item(state.version, state.sequence, state.value, blobs)
        return bool(
            await self._session.call("states.rewrite", blobs, run=run, epoch=epoch, sequence=sequence, state=item)
        )
