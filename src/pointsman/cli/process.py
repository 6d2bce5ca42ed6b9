"""What the long-lived verbs share: logging to stderr, and running until a signal says to leave."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from pointsman.process import event_loop_factory

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Service(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def log_to_stderr(level: str) -> None:
    """Lines of `time LEVEL name: message`."""
    logging.basicConfig(level=level.upper(), format=LOG_FORMAT, stream=sys.stderr, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every announcement, else
    logging.getLogger("httpcore").setLevel(logging.WARNING)


def serve(service: Service, started: Callable[[], Awaitable[None] | None]) -> None:
    """Start it, call `started`, stop it at the first SIGTERM or SIGINT. A second one ends the process."""

    async def run() -> None:
        leave = asyncio.Event()
        loop = asyncio.get_running_loop()

        def asked(number: signal.Signals) -> None:
            logging.getLogger("pointsman").info("%s: leaving", number.name)
            for each in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(each)
                signal.signal(each, signal.SIG_DFL)
            leave.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked, number)
        starting = asyncio.ensure_future(service.start())
        leaving = asyncio.create_task(leave.wait())
        try:
            await asyncio.wait([starting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                return
            await starting
            said = started()
            if said is not None:
                await said
            await leaving
        finally:
            leaving.cancel()
            await service.stop()

    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(run())
