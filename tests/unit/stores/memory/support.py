"""A clock that the test moves, and stores over it."""

from pointsman.ports.event_log import Append, NewEvent, NewRun
from pointsman.ports.ownership import Definition
from pointsman.stores.memory import MemoryDatabase, MemoryStore

DEFINITIONS = [Definition("support", 1, "build-1")]


class HandClock:
    def __init__(self) -> None:
        self.time_ms = 1_000_000

    def now(self) -> int:
        return self.time_ms

    def monotonic(self) -> float:
        return self.time_ms / 1000


async def open_stores(count: int, clock: HandClock | None = None) -> list[MemoryStore]:
    database = MemoryDatabase(clock or HandClock())
    stores = [MemoryStore(database) for _ in range(count)]
    for store in stores:
        await store.open()
    return stores


def creation(run: str, owner: int | None, **changes: object) -> Append:
    append = Append(
        run=run, epoch=1, expected=0, nonce=b"nonce %02d" % len(run), events=[NewEvent("RunStarted", 1, 1, b"{}")],
        status="running", owner=owner, create=NewRun("support", 1, "build-1", 1, "digest"),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(append, name, value)
    return append
