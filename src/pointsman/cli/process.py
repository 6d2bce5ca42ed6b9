"""What the long-lived verbs share: logging to stderr, and running until a signal says to leave."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pointsman.cli.exits import Usage
from pointsman.process import event_loop_factory

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Service(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def log_to_stderr(level: str) -> None:
    """Lines of `time LEVEL name: message`. Raises: Usage: there is no such level."""
    if level not in LEVELS:
        raise Usage(f"--log-level {level}: there are {', '.join(LEVELS)}")
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT, stream=sys.stderr, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every announcement, else
    logging.getLogger("httpcore").setLevel(logging.WARNING)


class Leaving:
    """What signals ask for: the first to leave, the second to hurry, and the next ends the process."""

    def __init__(self, hurry: Callable[[], None] | None) -> None:
        self._hurry = hurry
        self._loop = asyncio.get_running_loop()
        self.asked = asyncio.Event()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, self._ask, number)

    def _ask(self, number: signal.Signals) -> None:
        logger = logging.getLogger("pointsman")
        if not self.asked.is_set():
            logger.info("%s: leaving", number.name)
            self.asked.set()
        elif self._hurry is not None:
            logger.info("%s again: leaving at once", number.name)
            self._hurry()
            self._hurry = None
        if self._hurry is not None:
            return
        for each in SIGNALS:
            self._loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)


def serve(
    service: Service,
    started: Callable[[], Awaitable[None] | None],
    *,
    hurry: Callable[[], None] | None = None,
    worn: Callable[[], Awaitable[None]] | None = None,
) -> bool:
    """Start it, call `started`, stop it at the first SIGTERM or SIGINT.

    Args:
        hurry: called at the second signal: what is under way gets no more time. The third ends the process; without
            `hurry`, the second does.
        worn: returns when the service wants to be replaced by a new process, which also stops it.

    Returns: whether a new process is wanted: the service was worn, and nobody asked it to leave.
    """

    async def run() -> bool:
        leaving = Leaving(hurry)
        asked = asyncio.create_task(leaving.asked.wait(), name="asked to leave")
        starting = asyncio.ensure_future(service.start())
        wearing = asyncio.ensure_future(worn()) if worn is not None else asyncio.Future[None]()
        try:
            await asyncio.wait([starting, asked], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return False
            await starting
            said = started()
            if said is not None:
                await said
            until: list[asyncio.Future[Any]] = [asked, wearing]
            await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            wearing.cancel()
            await service.stop()
        return not leaving.asked.is_set()

    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        return runner.run(run())
