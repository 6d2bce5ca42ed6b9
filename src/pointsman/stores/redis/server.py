"""What a Redis server must be to keep what it has acknowledged, and how it is told that it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pointsman.kernel.errors import StoreUnavailable

OLDEST: Final = (6, 2)
DURABLE: Final = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
}
"""What has to be set, as CONFIG names it."""
LOST: Final = (
    "a crash of the server may lose runs, results and signals that were acknowledged, and let agents be called again "
    "under keys that were used before"
)


class StoreNotDurable(StoreUnavailable):
    """Redis is set up to lose what it has acknowledged."""

    code = "store_not_durable"
    retryable = False


class StoreUnsupported(StoreUnavailable):
    """This server cannot be a store."""

    code = "store_unsupported"
    retryable = False


def check_server(info: Mapping[str, Any]) -> None:
    """`info`: what INFO says. Raises StoreUnsupported."""
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        raise StoreUnsupported(f"{server_name(info)} is too old: Redis 6.2 or newer is needed, or Valkey")
    if int(info.get("cluster_enabled", 0)):
        raise StoreUnsupported(
            "this server is part of a Redis Cluster, which cannot write to the keys of several runs in one step: "
            "give a server outside of one (cluster-enabled no), and to each group of coordinators its own"
        )
    if info.get("role") != "master":
        raise StoreUnsupported("this server is a replica, which takes no writes: give the URL of its primary")


def server_name(info: Mapping[str, Any]) -> str:
    name, version = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    return f"{name} {version}"


def not_durable(found: Mapping[str, str]) -> str:
    """What is wrong with these settings, for people; empty: nothing."""
    wrong = [f"{name} is {found.get(name)}, not {value}" for name, value in DURABLE.items() if found.get(name) != value]
    return "; ".join(wrong)
