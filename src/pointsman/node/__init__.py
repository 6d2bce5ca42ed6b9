"""One coordinator process from inside, and what belongs to a process: addresses, hash seed, age and memory."""

from pointsman.node.addresses import AddressInUse, free_port, join_address
from pointsman.node.hash_seed import hash_seed
from pointsman.node.recycling import Limits
from pointsman.node.service import Node, NodeSettings

__all__ = ["AddressInUse", "Limits", "Node", "NodeSettings", "free_port", "hash_seed", "join_address"]
