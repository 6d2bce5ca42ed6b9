"""What a schedule is: a fault, the load that it meets, what a user sees of it, and what must hold.

Responsible for: the record and the list of all. Must not know: how a drill is run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pointsman.testing.chaos.app import Work
from pointsman.testing.chaos.own import OwnSite
from pointsman.testing.chaos.site import Offer, Site

if TYPE_CHECKING:
    from pointsman.testing.chaos.drill import Drill

Play = Callable[["Drill"], Awaitable[None]]
OWN: Final[frozenset[Offer]] = frozenset({"own"})
SCHEDULES: Final[dict[str, Schedule]] = {}
"""By name, in the order in which the modules of schedules/ declare them."""


@dataclass(frozen=True)
class Schedule:
    """One of them.

    Attributes:
        name: what `--schedule` takes.
        fault: what fails, in a few words.
        sees: what a user sees. promised, not_promised: what is guaranteed meanwhile, and what is not.
        play: does it. It finds the load under way, and leaves a cluster that can be whole again by itself.
        work: what a run does. clients: runs under way at the same time.
        short, long: how many times the fault strikes, in the tests and in `make chaos`.
        still_s_max: no run that is under way at a fault may stand still for longer.
        site: makes the cluster. Schedules with the same one share a cluster, one after another.
        must_lose: a control: it must not hold, or the judge sees nothing.
        duplicates: how many times each start is sent at the same time.
        patience_s: a run that has not ended so long after the last fault is lost.
        needs: what a site must offer for it.
    """

    name: str
    fault: str
    sees: str
    promised: str
    not_promised: str
    play: Play = field(repr=False)
    work: Work = field(default_factory=Work)
    clients: int = 24
    short: int = 1
    long: int = 5
    still_s_max: float = 30.0
    site: Callable[[Path], Site] = OwnSite
    must_lose: bool = False
    duplicates: int = 1
    patience_s: float = 60.0
    needs: frozenset[Offer] = OWN


def schedule(
    name: str, *, fault: str, sees: str, promised: str, not_promised: str, work: Work | None = None, clients: int = 24,
    short: int = 1, long: int = 5, still_s_max: float = 30.0, site: Callable[[Path], Site] = OwnSite,
    must_lose: bool = False, duplicates: int = 1, patience_s: float = 60.0, needs: Collection[Offer] = OWN,
) -> Callable[[Play], Play]:  # fmt: skip
    """Declare a schedule; see `Schedule`. Raises ValueError: the name is taken."""

    def declare(play: Play) -> Play:
        if name in SCHEDULES:
            raise ValueError(f"there are two schedules {name}")
        SCHEDULES[name] = Schedule(
            name, fault, sees, promised, not_promised, play, work or Work(), clients, short, long, still_s_max, site,
            must_lose, duplicates, patience_s, frozenset(needs),
        )  # fmt: skip
        return play

    return declare
