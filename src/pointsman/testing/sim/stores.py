"""The stores that a schedule may run on: what its database is, and what can go wrong with that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pointsman.testing.sim.clocks import SimClock
from pointsman.testing.sim.database import Replica
from pointsman.testing.sim.databases import SimDatabase
from pointsman.testing.sim.nemesis import Nemesis
from pointsman.testing.sim.network_nemesis import NetworkNemesis
from pointsman.testing.sim.sqlite.database import SimFile
from pointsman.testing.sim.sqlite.nemesis import DiskNemesis


class SimulatedStore(NamedTuple):
    """A store that a schedule may run on. `nodes_max`: coordinators that it has at a time."""

    new_database: Callable[[SimClock], SimDatabase]
    nemesis: type[Nemesis]
    nodes_max: int


MEMORY: Final = "memory"
SQLITE: Final = "sqlite"
STORES: Mapping[str, SimulatedStore] = {
    MEMORY: SimulatedStore(Replica, NetworkNemesis, nodes_max=3),
    SQLITE: SimulatedStore(SimFile, DiskNemesis, nodes_max=1),
}
