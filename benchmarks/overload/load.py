"""The clients: new runs by the clock, whatever becomes of the others; each waits for its result until its deadline."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from benchmarks.meter import percentiles
from benchmarks.triage.load import BadResponse, Connection

MARGIN_S: Final = 5.0
"""How long after its deadline a client still hears an answer; it is late by then."""


class _Run(msgspec.Struct):
    status: str


_decoder = msgspec.json.Decoder(_Run)


@dataclass
class Counts:
    """What the clients of one phase saw. Times in seconds, from when the request was due."""

    seconds: float
    took: float = 0.0
    """Until the last good one was done: what was accepted in time and done after the phase takes its time too."""
    began: float = field(default_factory=time.monotonic)
    offered: int = 0
    good: list[float] = field(default_factory=list)
    late: int = 0
    shed: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Runs done within their deadline, a second."""
        return len(self.good) / max(self.seconds, self.took)

    def figures(self) -> dict[str, Any]:
        return {
            "offered_per_s": round(self.offered / self.seconds, 1),
            "goodput_per_s": round(self.goodput, 1),
            "good": len(self.good),
            "late": self.late,
            "shed": len(self.shed),
            "errors": len(self.errors),
            "first_error": self.errors[0][:200] if self.errors else None,
            "good_ms": _times(self.good),
            "shed_ms": _times(self.shed),
        }


def _times(seconds: list[float]) -> dict[str, float] | None:
    if not seconds:
        return None
    p50, p99 = percentiles(seconds, 50, 99)
    return {"p50": round(p50 * 1e3, 1), "p99": round(p99 * 1e3, 1)}


class Clients:
    """Connections to one router.

    Args:
        deadline_s: a run that is done later is not good.
    """

    def __init__(self, url: str, workflow: str, deadline_s: float) -> None:
        host, _, port = url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)
        self._body = msgspec.json.encode({"workflow": workflow, "input": "hello"})
        self._deadline_s = deadline_s
        self._idle: list[Connection] = []

    async def at_most(self, clients: int, seconds: float) -> Counts:
        """As many as `clients` get through, each with one run after the other: the capacity."""
        counts, loop = Counts(seconds), asyncio.get_running_loop()
        until = loop.time() + seconds

        async def client() -> None:
            while loop.time() < until:
                await self._one(counts, loop.time())

        await asyncio.gather(*(client() for _ in range(clients)))
        return counts

    async def at_rate(self, per_second: float, seconds: float) -> Counts:
        """So many a second, whatever becomes of them."""
        counts, loop = Counts(seconds), asyncio.get_running_loop()
        began = loop.time()
        tasks = []
        for number in range(round(per_second * seconds)):
            due = began + number / per_second
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            tasks.append(asyncio.create_task(self._one(counts, due)))
        await asyncio.gather(*tasks)
        return counts

    async def _one(self, counts: Counts, due: float) -> None:
        counts.offered += 1
        loop = asyncio.get_running_loop()
        connection = self._idle.pop() if self._idle else Connection(*self._address)
        try:
            async with asyncio.timeout_at(due + self._deadline_s + MARGIN_S):
                status, answer = await connection.post(f"/v1/runs?wait={self._deadline_s:g}", self._body)
        except TimeoutError:
            counts.late += 1
            return
        except (OSError, asyncio.IncompleteReadError, BadResponse) as error:
            counts.errors.append(f"{type(error).__name__}: {error}")
            return
        finally:
            self._idle.append(connection)
        took = loop.time() - due
        if status == 503 and b'"overloaded"' in answer:
            counts.shed.append(took)
        elif status not in (200, 201):
            counts.errors.append(f"{status}: {answer[:200].decode(errors='replace')}")
        elif _decoder.decode(answer).status == "completed" and took <= self._deadline_s:
            counts.good.append(took)
            counts.took = time.monotonic() - counts.began
        else:
            counts.late += 1

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
