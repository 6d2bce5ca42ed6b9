"""A whole cluster on this machine, as processes of one supervisor."""

from pointsman.cluster.child import Child, die_with_parent
from pointsman.cluster.errors import ClusterFailed, DirectoryInUse, EmbeddedServerFailed
from pointsman.cluster.local import LocalCluster

__all__ = [
    "Child",
    "ClusterFailed",
    "DirectoryInUse",
    "EmbeddedServerFailed",
    "LocalCluster",
    "die_with_parent",
]
