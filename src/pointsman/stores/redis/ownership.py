"""Ownership on Redis: see `ports/ownership.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Definition, Victim
from pointsman.stores.redis import rows
from pointsman.stores.redis.session import Session


class RedisOwnership:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim_due(
        self, owner: int, definitions: Sequence[Definition], *, limit: int, runs: Sequence[str] | None = None
    ) -> list[Head]:
        wanted = None if runs is None else list(runs)
        found = await self._session.call(
            "ownership.claim_due", owner=str(owner), builds=_builds(definitions), limit=max(limit, 0), runs=wanted
        )
        return [rows.head(row) for row in found]

    async def claim_orphans(
        self, owner: int, definitions: Sequence[Definition], *, limit: int
    ) -> tuple[list[Head], int]:
        found, left = await self._session.call(
            "ownership.claim_orphans", owner=str(owner), builds=_builds(definitions), limit=max(limit, 0)
        )
        return [rows.head(row) for row in found], int(left)

    async def claim_suspects(
        self, owner: int, definitions: Sequence[Definition], *, together: Sequence[int]
    ) -> list[Head]:
        found = await self._session.call(
            "ownership.claim_suspects", owner=str(owner), builds=_builds(definitions), together=list(together)
        )
        return [rows.head(row) for row in found]

    async def end_trial(self, owner: int) -> None:
        await self._session.call("ownership.end_trial", owner=str(owner))

    async def died_on_trial(self, run: str) -> list[Victim]:
        return [
            Victim(int(number), name.decode())
            for number, name in await self._session.call("ownership.died_on_trial", run=run)
        ]

    async def release(self, run: str) -> bool:
        return bool(await self._session.call("ownership.release", run=run))

    async def owned(self, owner: int) -> Mapping[str, int]:
        found = await self._session.call("ownership.owned", owner=str(owner))
        return {run.decode(): int(epoch) for run, epoch in found}

    async def hand_over(self, owner: int, runs: Mapping[str, int]) -> int:
        return int(await self._session.call("ownership.hand_over", owner=str(owner), runs=dict(runs)))

    async def stranded(self, definitions: Sequence[Definition]) -> list[Definition]:
        known = {(one.workflow, one.version) for one in definitions}
        kinds = [kind.decode().partition(" ") for kind in await self._session.call("ownership.needed")]
        needed = {(workflow, int(version)) for version, _, workflow in kinds}
        return [Definition(workflow, version, "") for workflow, version in sorted(needed - known)]


def _builds(definitions: Sequence[Definition]) -> dict[str, str]:
    return {f"{one.version} {one.workflow}": one.build for one in definitions}
