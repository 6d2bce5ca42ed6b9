"""Why a cluster on this machine did not come up.

PointsmanError (kernel)
├── ClusterFailed           a process ended, or was not ready in time
├── DirectoryInUse          another supervisor has the directory
└── EmbeddedServerFailed    PostgreSQL did not start
"""

from __future__ import annotations

from pointsman.kernel.errors import PointsmanError


class ClusterFailed(PointsmanError):
    """A process of the cluster did not come up; its log says why."""

    code = "cluster_failed"


class DirectoryInUse(PointsmanError):
    """Another supervisor runs on this directory: stop it, or give another --data."""

    code = "directory_in_use"


class EmbeddedServerFailed(PointsmanError):
    """The embedded PostgreSQL did not start."""

    code = "embedded_postgres"
