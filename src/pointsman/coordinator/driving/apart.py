"""Run the bodies of workflows apart from tasks: what asyncio ties to the current task must not be tied to the engine's.

For example, `asyncio.timeout` in a body would cancel the task that happens to drive the run, or that of a client that
starts it. Without a current task asyncio refuses it. Most steps are turns of the event loop and have no task anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def apart() -> Iterator[None]:
    """Run the block as if no task were current. Nothing may be awaited in it."""
    loop = asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    if loop is None or task is None:
        yield
        return
    asyncio._leave_task(loop, task)
    try:
        yield
    finally:
        asyncio._enter_task(loop, task)
