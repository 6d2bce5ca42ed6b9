"""The router: the stateless HTTP process in front of the coordinators.

Must not know stores, runs or what a request means beyond what decides where it goes and whether it may be
sent twice.
"""

from pointsman.router.service import RouterService
from pointsman.router.settings import InvalidRouterSettings, RouterSettings

__all__ = ["InvalidRouterSettings", "RouterService", "RouterSettings"]
