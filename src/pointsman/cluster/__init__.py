"""A whole cluster on this machine, or one coordinator that follows a program's files, as processes of a supervisor."""

from pointsman.cluster.child import Child, die_with_parent
from pointsman.cluster.errors import ClusterFailed, DirectoryInUse, EmbeddedServerFailed
from pointsman.cluster.local import LocalCluster
from pointsman.cluster.reloading import ReloadingCoordinator
from pointsman.cluster.watching import FileWatch

__all__ = [
    "Child",
    "ClusterFailed",
    "DirectoryInUse",
    "EmbeddedServerFailed",
    "FileWatch",
    "LocalCluster",
    "ReloadingCoordinator",
    "die_with_parent",
]
