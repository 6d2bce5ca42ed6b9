"""The doctor's queries on Redis: see `ports/inspection.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pointsman.ports.inspection import Cut, Fact, MailCount, Orphan, Stray
from pointsman.ports.states import NO_STATE
from pointsman.stores.redis import rows
from pointsman.stores.redis.event_log import RedisEventLog, state_item
from pointsman.stores.redis.server import DURABLE, LOST, server_name
from pointsman.stores.redis.session import Blobs, Session

PAGE: Final = 1_000
FULL: Final = 0.8
"""The share of `maxmemory` from which on the doctor warns."""


class RedisInspection:
    def __init__(self, session: Session, log: RedisEventLog) -> None:
        self._session = session
        self._log = log

    async def facts(self) -> list[Fact]:
        info = await self._session.command("INFO")
        durability = await self._session.durability()
        return [
            Fact("store", f"{server_name(info)}, prefix {self._session.prefix.rstrip(':')}"),
            Fact("memory", f"{int(info['used_memory']) // 2**20} MB used", _of_memory(info)),
            *(
                Fact(
                    name, durability.get(name, "unknown"), "" if durability.get(name) == wanted else f"{wanted}: {LOST}"
                )
                for name, wanted in DURABLE.items()
            ),
        ]

    async def mail_counts(self, *, runs: Sequence[str] | None = None, limit: int) -> list[MailCount]:
        found = await self._look("inspection.mail_counts", runs, limit)
        return [MailCount(run.decode(), *map(int, counts)) for run, *counts in found]

    async def orphans(self, *, runs: Sequence[str] | None = None, limit: int) -> list[Orphan]:
        found = await self._look("inspection.orphans", runs, limit)
        return [Orphan(run.decode(), int(owner), int(ago) if ago else None) for run, owner, ago in found]

    async def _look(self, operation: str, runs: Sequence[str] | None, limit: int) -> list[Any]:
        """What an operation finds among these runs, or all. Reads a page at a time, so that others get their turn."""
        self._session.enter()
        wanted = sorted(runs) if runs is not None else await self._all_runs()
        found: list[Any] = []
        for first in range(0, len(wanted), PAGE):
            found += await self._session.call(operation, runs=wanted[first : first + PAGE])
            if len(found) >= limit:
                break
        return found[: max(limit, 0)]

    async def _all_runs(self) -> list[str]:
        key = f"{self._session.prefix}runs"
        return sorted(run.decode() for run in await self._session.command("ZRANGE", key, 0, -1))

    async def strays(self, *, limit: int) -> list[Stray]:
        found = await self._session.call("inspection.strays", limit=limit)
        return [Stray("reservations", of.decode(), int(count)) for of, count in found]

    async def moved_away(self, run: str) -> int:
        return int(await self._session.command("LLEN", f"{self._session.prefix}moved:{run}"))

    async def cut(self, cut: Cut) -> bool:
        """See `ports/inspection.py`. Reads the generations first, and cuts only if the head has not moved since."""
        begins = await self._generations(cut.run, cut.kept)
        blobs, state = Blobs(), cut.state or NO_STATE
        plain = self._session.settings.plain_bytes_max
        event = blobs.add(rows.stored(cut.repaired, cut.kept + 1, cut.epoch + 1, b"", plain))
        reason = blobs.add(cut.reason.encode())
        return bool(
            await self._session.call(
                "inspection.cut", blobs, run=cut.run, epoch=cut.epoch, sequence=cut.sequence, kept=cut.kept,
                folded=cut.folded, event=event, reason=reason,
                state=state_item(state.version, state.sequence, state.value, blobs),
                base=begins[-1] if begins else 1, generation=1 + len(begins),
            )
        )  # fmt: skip

    async def recount_mail(self, run: str, epoch: int) -> bool:
        return bool(await self._session.call("inspection.recount_mail", run=run, epoch=epoch))

    async def _generations(self, run: str, kept: int) -> list[int]:
        begins: list[int] = []
        after = 0
        while after < kept:
            page = await self._log.read(run, after=after, limit=min(PAGE, kept - after))
            if not page:
                break
            begins += [event.sequence for event in page if event.type == "RunRestarted"]
            after += len(page)
        return begins


def _of_memory(info: Mapping[str, Any]) -> str:
    """What is wrong with the memory, if anything: the whole log is in it, and writes are refused when it is full."""
    used, most = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if most and used > FULL * most:
        return f"of {most // 2**20} MB: give it more (maxmemory), or delete old runs (pointsman retention)"
    return ""
