"""The same calls in the same order give the same tables, in any process: the simulator stands on it."""

import subprocess
import sys

SCRIPT = """
import asyncio
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from tests.unit.stores.memory.support import DEFINITIONS, HandClock, creation

async def main():
    database = MemoryDatabase(HandClock())
    stores = [MemoryStore(database) for _ in range(3)]
    for number, store in enumerate(stores):
        await store.open()
        await store.liveness.register(str(number), "", DEFINITIONS, ttl_ms=1000)
    await asyncio.gather(*(
        store.log.append([creation(f"{n}/{m}", None, wake_at=1) for m in range(20)]) for n, store in enumerate(stores)
    ))
    claimed = await asyncio.gather(*(
        store.ownership.claim_due(n + 1, DEFINITIONS, limit=13) for n, store in enumerate(stores)
    ))
    print([[head.id for head in heads] for heads in claimed])
    print([item.run for item in (await stores[0].log.feed())[0]])
    for store in stores:
        await store.close()

asyncio.run(main())
"""


def test_another_hash_seed_changes_nothing() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 2
