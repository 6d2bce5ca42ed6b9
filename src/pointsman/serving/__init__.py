"""The agents of an app in a process of their own: an HTTP service, or a worker that fetches calls."""

from pointsman.serving.cluster import Cluster, ClusterRefused
from pointsman.serving.registration import registered
from pointsman.serving.server import AgentServer, serve
from pointsman.serving.worker import Worker

__all__ = ["AgentServer", "Cluster", "ClusterRefused", "Worker", "registered", "serve"]
