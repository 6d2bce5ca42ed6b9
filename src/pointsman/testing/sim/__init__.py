"""The simulator: the production coordinator and kernel, unchanged, on a seeded scheduler, a virtual clock
and a faulty store.

A seed is a schedule, the same in every process. `python -m pointsman.testing.sim --help`.
"""

from pointsman.testing.sim.world import Report, World, simulate

__all__ = ["Report", "World", "simulate"]
