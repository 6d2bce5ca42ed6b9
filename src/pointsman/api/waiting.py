"""Requests that wait for a run's end. A wait is ended when its client has gone or the server stops.

Must not know what they wait for. A waiter costs one set entry and no second task, because starting a run and waiting
for it is the path that is measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Scope

STATE_KEY = "waiter"
"""The key under which a connection finds the task to cancel when its client goes."""


class Waiting:
    """The waiters of one server, and whether it is stopping."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[object]] = set()

    @contextmanager
    def here(self, scope: Scope) -> Iterator[None]:
        """Put around an await that may be given up: the task is cancelled in it when the server stops or the client
        goes.
        """
        if self.stopping.is_set():
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("waiting needs a task")
        state = scope.setdefault("state", {})
        self._tasks.add(task)
        state[STATE_KEY] = task
        try:
            yield
        finally:
            self._tasks.discard(task)
            state.pop(STATE_KEY, None)

    def stop(self) -> None:
        """End every wait, now and later."""
        self.stopping.set()
        for task in list(self._tasks):
            task.cancel()
