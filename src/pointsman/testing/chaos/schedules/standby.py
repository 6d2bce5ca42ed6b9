"""The database's machine is lost: the primary is killed and its standby promoted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pointsman.testing.chaos.drill import Drill
from pointsman.testing.chaos.schedule import schedule
from pointsman.testing.chaos.standby import PairSite, asynchronous_pair, synchronous_pair

BEHIND_S = 0.3
"""How long nothing is replicated before the primary is killed."""
TOLD_MIN = 10
"""So many acknowledgements more does the control wait for: these the standby does not have."""


async def lose_the_primary(drill: Drill) -> None:
    await _fail_over(drill, lambda: drill.flow(BEHIND_S))


async def lose_the_primary_asynchronously(drill: Drill) -> None:
    async def more_is_acknowledged() -> None:
        enough = drill.load.told + TOLD_MIN
        while drill.load.told < enough:
            await drill.flow(0.05)

    await _fail_over(drill, more_is_acknowledged)


async def _fail_over(drill: Drill, behind: Callable[[], Awaitable[None]]) -> None:
    site = drill.site
    assert isinstance(site, PairSite)
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            await site.fail_over(behind())
        await drill.flow()
        await site.follow()
    await drill.flow()


schedule(
    "standby-promoted",
    fault="the primary is killed while replication is 0.3 s behind, and its synchronous standby promoted",
    sees="requests wait or get 503 until the address leads to the standby; then everything goes on",
    promised="what was acknowledged is on the standby: nothing is lost",
    not_promised="the promotion and the moved address: that is for Patroni, your cloud, or you",
    long=10,
    site=synchronous_pair,
)(lose_the_primary)

schedule(
    "standby-asynchronous",
    fault="control: the same with an asynchronous standby, which falls behind by ten acknowledgements",
    sees="acknowledged runs, signals and results that nobody knows any more",
    promised="nothing: what the standby did not have is lost. The judge must see it",
    not_promised="anything that was acknowledged shortly before",
    long=1,
    patience_s=15.0,
    site=asynchronous_pair,
    must_lose=True,
)(lose_the_primary_asynchronously)
