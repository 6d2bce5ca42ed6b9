"""Liveness on Redis: see `ports/liveness.py` for what it promises.

A process is known by a connection of its own, whose id is stored with its incarnation; the server forgets it as soon as
the process ends. That is only a hint, confirmed after a short wait; a silent holder ends when its lease expires by the
server's clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.kernel.errors import CoordinatorExists
from pointsman.ports.liveness import Lease, Member
from pointsman.ports.ownership import Definition
from pointsman.stores.inprocess.lease import InProcessLease
from pointsman.stores.redis.rows import fields
from pointsman.stores.redis.session import Session

CONFIRM_S: Final = 0.15
"""How long a connection must be gone before its incarnation is ended."""
WATCH_S: Final = 0.1
"""How often the others are checked."""

logger = logging.getLogger("pointsman.store")
_definitions = msgspec.json.Decoder(tuple[Definition, ...])


class RedisLiveness:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._leases: list[InProcessLease] = []
        self._connection = ""
        self._deaths_seen: int | None = None

    async def start(self) -> None:
        """Start; deaths are noticed from now on."""
        self._deaths_seen = int(await self._session.command("LLEN", f"{self._session.prefix}deaths"))

    async def register(self, name: str, address: str, definitions: Sequence[Definition], *, ttl_ms: int) -> Lease:
        self._session.enter()
        self._connection, _ = await self._session.presence([])
        wish: dict[str, Any] = {
            "name": name, "address": address, "ttl_ms": ttl_ms, "client": self._connection,
            "definitions": msgspec.json.encode(list(definitions)).decode(),
        }  # fmt: skip
        sent = self._session.clock.monotonic()
        answer = await self._session.call("liveness.register", **wish)
        if answer[0] == b"exists" and (await self._session.presence([answer[2].decode()]))[1]:
            sent = self._session.clock.monotonic()
            answer = await self._session.call("liveness.register", **wish, dead=answer[1].decode())
        if answer[0] == b"exists":
            raise CoordinatorExists(
                f"coordinator {name!r} is alive at {answer[3].decode() or 'an unknown address'}; "
                "give this one another --name, or stop the other"
            )
        lease = InProcessLease(int(answer[1]), ttl_ms, sent, self._session.clock, self.renew, self.end)
        self._leases.append(lease)
        return lease

    async def members(self) -> list[Member]:
        return [_member(row) for row in await self._session.call("liveness.members")]

    async def renew(self, incarnation: int) -> bool:
        """Extend a lease; False when it was ended. Raises StoreUnavailable."""
        self._connection, _ = await self._session.presence([])
        is_living = bool(await self._session.call("liveness.renew", number=str(incarnation), client=self._connection))
        await self._session.measure()
        return is_living

    async def end(self, incarnation: int) -> None:
        """End any incarnation. Raises StoreUnavailable."""
        await self._session.call("liveness.finish", number=str(incarnation))

    async def next_death(self, own: int) -> int:
        while True:
            seen = self._deaths_seen or 0
            deaths, members, now = await self._session.call("liveness.deaths", after=seen)
            for death in deaths:
                seen += 1
                self._deaths_seen = seen
                if int(death) != own:
                    return int(death)
            await self._look_around([row for row in members if int(row[0]) != own], int(now))
            await asyncio.sleep(WATCH_S)

    async def stop(self) -> None:
        """Stop renewing without telling anybody, like the end of a process."""
        for lease in self._leases:
            await lease.stop()
        self._leases.clear()

    async def _look_around(self, others: list[Any], now: int) -> None:
        """End incarnations that are dead: their connection is gone and stays so, or their lease has expired."""
        rows = {int(row[0]): fields(row[1]) for row in others}
        gone = await self._gone([row["client"] for row in rows.values()])
        if gone:
            await asyncio.sleep(CONFIRM_S)
            gone = await self._gone(list(gone))
        for number, row in rows.items():
            if row["client"] in gone:
                await self._session.call("liveness.finish", number=str(number), client=row["client"])
            elif int(row["expires_at"]) <= now and self._may_judge(int(row["ttl_ms"])):
                await self._session.call("liveness.finish", number=str(number), expired=True)

    async def _gone(self, connections: list[str]) -> set[str]:
        """Which of these are gone. If our own had to be reopened, the others are told at once: a lost connection must
        not end an incarnation.
        """
        own, gone = await self._session.presence(connections)
        if own != self._connection:
            for lease in self._leases:
                await self.renew(lease.incarnation)
        return gone

    def _may_judge(self, ttl_ms: int) -> bool:
        """Whether this process may judge others: it has itself reached the server without a break for a whole TTL."""
        now, since, ttl_s = self._session.clock.monotonic(), self._session.reached_since, ttl_ms / 1000
        return since is not None and now - since >= ttl_s and now - self._session.reached_at < ttl_s


def _member(row: Any) -> Member:
    found = fields(row[1])
    return Member(
        int(row[0]), found["name"], found["address"], int(found["started_at"]), int(found["expires_at"]),
        _definitions.decode(found["definitions"]),
    )  # fmt: skip
