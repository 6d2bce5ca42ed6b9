"""What the cases are written in: a coordinator played by hand, appends in few words, bounded waiting."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from pointsman.kernel.errors import PointsmanError
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import Append, AppendResult, Head, Letter, NewEvent, NewRun, Outcome
from pointsman.ports.liveness import Lease
from pointsman.ports.ownership import Definition
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness

S = TypeVar("S")
T = TypeVar("T")

DEFINITION = Definition("support", 1, "build-1")
TTL_MS = 5_000
PATIENCE_S = 10.0
"""A wait that lasts this long is a failure."""
FAR_MS = 3_600_000


def event(body: bytes = b'{"call":"triage#1"}', *, type: str = "CallCompleted") -> NewEvent:  # noqa: A002
    return NewEvent(type=type, version=1, at=1_700_000_000_000, body=body)


def nonce() -> bytes:
    return secrets.token_bytes(8)


def new_run(**changes: Any) -> NewRun:
    fields: dict[str, Any] = {
        "workflow": "support",
        "version": 1,
        "build": "build-1",
        "bucket": 1,
        "digest": "d",
    }
    return NewRun(**(fields | changes))


class Coordinator:
    """A store with a registered incarnation, and the appends that its runs' owner would make."""

    def __init__(self, store: Store, lease: Lease) -> None:
        self.store = store
        self.lease = lease
        self.number = lease.incarnation

    # -- appends of one run ----------------------------------------------------------------------------------

    def create(self, run: str, *, events: int = 1, epoch: int = 1, **new: Any) -> Append:
        """A new run, owned by this coordinator; with epoch 0, by nobody and due at once."""
        return Append(
            run=run, epoch=epoch, expected=0, nonce=nonce(), events=[event() for _ in range(events)],
            status="running", owner=self.number if epoch else None, wake_at=None if epoch else 1,
            create=new_run(**({"bucket": self.store.bucket()} | new)),
        )  # fmt: skip

    def step(self, run: str, expected: int, *, epoch: int = 1, events: int = 1, folded: int = 0) -> Append:
        return Append(
            run=run, epoch=epoch, expected=expected, nonce=nonce(), events=[event() for _ in range(events)],
            status="running", owner=self.number, folded=folded,
        )  # fmt: skip

    def park(self, run: str, expected: int, *, epoch: int = 1, folded: int = 0, wake_at: int | None = None) -> Append:
        return Append(
            run=run, epoch=epoch, expected=expected, nonce=nonce(), events=[event()], status="parked",
            owner=None, folded=folded, closes=True, wake_at=wake_at,
        )  # fmt: skip

    def finish(
        self, run: str, expected: int, *, epoch: int = 1, folded: int = 0, letter: Letter | None = None
    ) -> Append:
        return Append(
            run=run, epoch=epoch, expected=expected, nonce=nonce(), events=[event(type="RunCompleted")],
            status="completed", owner=None, folded=folded, closes=True, letter=letter,
        )  # fmt: skip

    # -- doing it --------------------------------------------------------------------------------------------

    async def append(self, append: Append) -> AppendResult:
        (result,) = await self.store.log.append([append])
        return result

    async def outcome(self, append: Append) -> Outcome:
        return (await self.append(append)).outcome

    async def moved(self, *appends: Append) -> list[AppendResult]:
        """One batch, of which every part must move."""
        results = await self.store.log.append(appends)
        assert [result.outcome for result in results] == [Outcome.MOVED] * len(appends), results
        return results

    async def head(self, run: str) -> Head:
        return (await self.store.log.heads([run]))[run]

    async def stream(self, run: str) -> list[Recorded]:
        return await read_all(self.store, run)

    async def post(self, run: str, key: str, body: bytes = b"{}") -> int:
        return await self.store.mailbox.post(run, key, "signal", body)

    async def claim(self, *runs: str, limit: int = 100, definitions: Sequence[Definition] = ()) -> list[Head]:
        """Claim those of `runs` that are due, or any."""
        return await self.store.ownership.claim_due(
            self.number, definitions or [DEFINITION], limit=limit, runs=runs or None
        )

    async def claim_orphans(
        self, *, limit: int = 100, definitions: Sequence[Definition] = ()
    ) -> tuple[list[Head], int]:
        return await self.store.ownership.claim_orphans(self.number, definitions or [DEFINITION], limit=limit)

    async def claim_suspects(self, *together: int, definitions: Sequence[Definition] = ()) -> list[Head]:
        return await self.store.ownership.claim_suspects(
            self.number, definitions or [DEFINITION], together=together or [1]
        )

    async def take(self, run: str, owner: Coordinator) -> Head:
        """Take a run from its living owner, by way of a hand-over; the epoch is one higher after it."""
        epoch = (await owner.store.ownership.owned(owner.number))[run]
        assert await owner.store.ownership.hand_over(owner.number, {run: epoch}) == 1
        (head,) = await self.claim(run)
        return head


async def coordinator(harness: Harness, name: str = "a", *, ttl_ms: int = TTL_MS) -> Coordinator:
    store = await harness.open()
    return Coordinator(store, await store.liveness.register(name, f"http://{name}", [DEFINITION], ttl_ms=ttl_ms))


async def coordinators(harness: Harness, count: int, *, ttl_ms: int = TTL_MS) -> list[Coordinator]:
    return [await coordinator(harness, f"c{number}", ttl_ms=ttl_ms) for number in range(count)]


async def read_all(store: Store, run: str, page: int = 1000) -> list[Recorded]:
    events: list[Recorded] = []
    while True:
        more = await store.log.read(run, after=len(events), limit=page)
        events += more
        if len(more) < page:
            return events


def assert_dense(events: Sequence[Recorded], count: int) -> None:
    assert [recorded.sequence for recorded in events] == list(range(1, count + 1))


def letter(parent: str, child: str, body: bytes = b"{}") -> Letter:
    return Letter(run=parent, key=f"child/{child}", kind="child", body=body)


async def raises(expected: type[PointsmanError], action: Awaitable[object]) -> None:
    """`action` must end in this error. Any other passes through as it is."""
    try:
        result = await action
    except expected:
        return
    raise AssertionError(f"{expected.__name__} expected, got {result!r}")


def patience() -> asyncio.Timeout:
    """Around everything that a case waits for."""
    return asyncio.timeout(PATIENCE_S)


async def soon(action: Awaitable[T]) -> T:
    """The result of something that must happen without anybody's help."""
    async with patience():
        return await action


async def until(probe: Callable[[], Awaitable[T]]) -> T:
    """The first true answer of a probe: for what a store shows only when it is asked."""
    async with patience():
        while not (answer := await probe()):  # noqa: ASYNC110 (a store has nothing that it could signal)
            await asyncio.sleep(0.005)
    return answer


async def both(one: Coroutine[Any, Any, S], other: Coroutine[Any, Any, T]) -> tuple[S, T]:
    """Two actions at once, to the end of both, whichever fails."""
    first, second = asyncio.create_task(one), asyncio.create_task(other)
    await every(first, second)
    return first.result(), second.result()


async def every(*tasks: asyncio.Task[Any]) -> None:
    """All of them to their end; then the first error, if there was one."""
    await asyncio.wait(tasks)
    for error in [task.exception() for task in tasks]:
        if error is not None:
            raise error


async def jitter(chance: random.Random) -> None:
    """Let the others go first, for a few rounds of the loop: so that races meet in every order."""
    for _ in range(chance.randrange(6)):
        await asyncio.sleep(0)
