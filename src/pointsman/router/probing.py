"""Every coordinator that is used is asked for a sign of life, over the way that requests take.

Announcements alone do not show that requests come through: a firewall may let one direction pass. And coordinators of
the static list may announce nothing. Must not know requests: a stopped process still takes connections, so only an
answer counts.
"""

from __future__ import annotations

import asyncio
import logging

from pointsman.router.membership import Member
from pointsman.router.settings import parse_address
from pointsman.router.state import RouterState

logger = logging.getLogger("pointsman.router")


class Prober:
    """From `start` to `stop`. One probe of each coordinator at a time."""

    def __init__(self, router: RouterState) -> None:
        self._router = router
        self._task: asyncio.Task[None] | None = None
        self._under_way: dict[Member, asyncio.Task[None]] = {}

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._look(), name="prober")

    async def stop(self) -> None:
        tasks = [*self._under_way.values(), *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        router = self._router
        while True:
            await asyncio.sleep(router.settings.probe_every_s)
            for member in router.membership.probed(router.clock()):
                if member not in self._under_way:
                    self._under_way[member] = asyncio.create_task(self._probe(member), name=f"probe {member.name}")

    async def _probe(self, member: Member) -> None:
        address = member.address
        try:
            is_unanswered = not await self._answers(address)
        finally:
            del self._under_way[member]
        if member.address != address:
            return
        if is_unanswered and not member.unanswered and member.heard_at is not None:
            logger.warning("coordinator %s does not answer, though it announces itself", member.name)
        member.unanswered = is_unanswered
        if not is_unanswered and self._router.clock() >= member.down_until:
            # Whoever can't take requests now says nothing of itself, or refuses the next one: it is down again then.
            self._router.membership.answered(member)
        if is_unanswered and self._router.membership.anybody_answers(self._router.clock()):
            self._router.upstreams.coordinator_silent(address)

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
