"""The simulator: the production coordinator and kernel, unchanged, on a seeded scheduler, a virtual clock
and a faulty store.

A seed is a schedule, the same in every process. `python -m pointsman.testing.sim` runs the simulator's own workload,
`pointsman simulate` a user's app.
"""

from pointsman.testing.sim.journal import effect
from pointsman.testing.sim.report import Report
from pointsman.testing.sim.users import Aftermath, SimulatedRun, invariant
from pointsman.testing.sim.world import World, simulate

__all__ = ["Aftermath", "Report", "SimulatedRun", "World", "effect", "invariant", "simulate"]
