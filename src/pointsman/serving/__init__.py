"""The agents of an app as an HTTP service that registers itself with a cluster."""

from pointsman.serving.cluster import Cluster, ClusterRefused
from pointsman.serving.registration import registered
from pointsman.serving.server import AgentServer, serve

__all__ = ["AgentServer", "Cluster", "ClusterRefused", "registered", "serve"]
