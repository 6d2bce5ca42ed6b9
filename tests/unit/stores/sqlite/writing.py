"""A process that writes to a SQLite store until it is killed, and says what was acknowledged: `run sequence` a line."""

import asyncio
import os
import sys

from pointsman.stores.sqlite import SqliteStore
from pointsman.testing.conformance.support import Coordinator

WRITERS = 40


async def write(owner: Coordinator, run: str) -> None:
    sequence = 2
    await owner.moved(owner.create(run, events=2))
    while True:
        os.write(1, f"{run} {sequence}\n".encode())
        await owner.moved(owner.step(run, sequence, events=3))
        sequence += 3


async def main(path: str, turn: str) -> None:
    store = SqliteStore(path)
    await store.open()
    owner = Coordinator(store, await store.liveness.register("writer", "", [], ttl_ms=3_000))
    await asyncio.gather(*(write(owner, f"run-{turn}-{number}") for number in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
