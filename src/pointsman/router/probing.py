"""Static coordinators that do not announce themselves are asked for a sign of life.

Must not know requests: a stopped process still takes connections, so only an answer counts.
"""

from __future__ import annotations

import asyncio

from pointsman.router.membership import Member
from pointsman.router.settings import parse_address
from pointsman.router.state import RouterState


class Prober:
    """One task for each static coordinator, from `start` to `stop`."""

    def __init__(self, router: RouterState) -> None:
        self._router = router
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._watch(member)) for member in self._router.membership.static]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, member: Member) -> None:
        router = self._router
        while True:
            await asyncio.sleep(router.settings.probe_every_s)
            if router.membership.announced(member.address, router.clock()):
                member.unanswered = False
                continue
            member.unanswered = not await self._answers(member.address)
            if member.unanswered:
                router.upstreams.coordinator_silent(member.address)

    async def _answers(self, address: str) -> bool:
        host, port = parse_address(address)
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._router.settings.probe_timeout_s):
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"GET /health HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % address.encode())
                return (await reader.read(7)).startswith(b"HTTP/1.")
        except OSError:  # TimeoutError is one
            return False
        finally:
            if writer is not None:
                writer.transport.abort()
