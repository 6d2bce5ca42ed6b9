"""The memory store: all rules of the ports over plain tables in one process. Nothing survives the process.

For tests, for the simulator, and for running everything in one process. `MemoryDatabase` holds the tables;
each coordinator opens a `MemoryStore` of its own over it.
"""

from pointsman.stores.inprocess.clock import SystemClock
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore

__all__ = ["MemoryDatabase", "MemoryStore", "SystemClock"]
