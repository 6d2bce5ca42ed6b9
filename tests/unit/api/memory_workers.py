"""A small, real `Workers` in memory: one call at a time, and every attempt is under way until `over`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pointsman.ports.agents import AttemptOver, CallAddress
from pointsman.ports.workers import AttemptResult, CoordinatorAddress, Handed, HandedCall, Poll, WorkerView

HERE = "127.0.0.1:8101"


class MemoryWorkers:
    address = HERE

    def __init__(self) -> None:
        self.polls: list[tuple[str, Poll, float]] = []
        self.calls: asyncio.Queue[HandedCall] = asyncio.Queue()
        self.results: list[tuple[CallAddress, int, AttemptResult]] = []
        self.left: list[str] = []
        self.over = False

    async def coordinators(self) -> Sequence[CoordinatorAddress]:
        return [CoordinatorAddress("one", HERE, 1), CoordinatorAddress("two", "127.0.0.1:8102", 2)]

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        self.polls.append((worker, poll, wait_s))
        return Handed((await self.calls.get(),), poll.holding)

    def leave(self, worker: str) -> bool:
        self.left.append(worker)
        return any(worker == known for known, _, _ in self.polls)

    def workers(self) -> Sequence[WorkerView]:
        return [WorkerView(worker, poll.agents, poll.free, 0, is_polling=False) for worker, poll, _ in self.polls]

    async def finish(self, call: CallAddress, attempt: int, result: AttemptResult) -> None:
        if self.over:
            raise AttemptOver
        self.results.append((call, attempt, result))
