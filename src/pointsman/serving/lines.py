"""A worker's polls: one at every coordinator, at all times.

A poll says what the worker can take and what it holds. When that changes so that a coordinator must know, a new poll
ends the one that waits there; what that one is answered does not count any more, and both sides know it by its number.
Must not know what is done with a call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Protocol

import msgspec

from pointsman.kernel.errors import PointsmanError, StoreUnavailable
from pointsman.ports.workers import CoordinatorAddress, Handed, HandedCall, HeldCall, Poll
from pointsman.serving.cluster import BACKOFF_S, BACKOFF_S_MAX, Cluster, Coordinator

LOOK_S = 1.0
"""How often to look which coordinators there are: so late, at most, a new one has its first poll."""
TELL_S = 0.5
"""After so long a coordinator is told of a call that another one gave: it may be the run's next owner. Short calls are
over by then, and cost no poll."""
ANSWER_S = 5.0
"""A poll is answered within so long after its wait."""

logger = logging.getLogger("pointsman.serving")


@dataclass(frozen=True)
class Offer:
    """What a worker says of itself at one moment."""

    agents: tuple[str, ...]
    free: int
    holding: tuple[HeldCall, ...]


class Side(Protocol):
    """Whose polls these are."""

    def offer(self) -> Offer: ...

    def handed(self, call: HandedCall, coordinator: Coordinator) -> None:
        """A call to make, or to leave: what the next poll does not hold goes to another worker."""
        ...

    def over(self, name: HeldCall) -> None:
        """Nobody waits for it any more."""
        ...


class _Coordinators(msgspec.Struct):
    coordinators: list[CoordinatorAddress]


class _Line:
    """One coordinator, and what it was told last."""

    def __init__(self, address: str) -> None:
        self.coordinator = Coordinator(address)
        self.number = 0
        self.told = Offer((), 0, ())
        self.backoff_s = BACKOFF_S
        self.polls: dict[asyncio.Task[None], None] = {}
        self.retry: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self.retry is not None:
            self.retry.cancel()
        for poll in list(self.polls):
            poll.cancel()


class Lines:
    """A service: `start`, `stop`.

    Args:
        worker: its id.
        wait_s: how long a poll waits for calls.
    """

    def __init__(self, worker: str, cluster: Cluster, side: Side, *, wait_s: float) -> None:
        self._worker = worker
        self._cluster = cluster
        self._side = side
        self._wait_s = wait_s
        self._number = 0
        self._lines: dict[str, _Line] = {}
        self._looking: asyncio.Task[None] | None = None
        self._telling: asyncio.TimerHandle | None = None
        self.is_connected = asyncio.Event()
        """Some coordinator has answered a poll, or the list of them."""

    def start(self) -> None:
        self._looking = asyncio.create_task(self._look_forever(), name="coordinators")

    async def stop(self) -> None:
        """Say good-bye to each coordinator: what is still held goes to other workers at once."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        if self._telling is not None:
            self._telling.cancel()
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.close()
        await asyncio.gather(*(self._leave(line) for line in lines))

    async def _leave(self, line: _Line) -> None:
        try:
            await self._cluster.ask_coordinator(
                line.coordinator, "DELETE", f"/v1/workers/{self._worker}", timeout_s=2.0
            )
        except PointsmanError as error:
            logger.info("no good-bye to coordinator %s: %s", line.coordinator.address, error)

    def changed(self) -> None:
        """The offer has. Who was told that there is no room, or of agents that are no longer so, is told at once; that
        a call is held is soon enough."""
        offer = self._side.offer()
        for line in list(self._lines.values()):
            told = line.told
            if line.number and (offer.agents != told.agents or (offer.free > 0 and told.free == 0)):
                self._poll(line)
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self.tell)

    def tell(self) -> None:
        """All that changed, to whom was not told."""
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        offer = self._side.offer()
        for line in list(self._lines.values()):
            is_news = set(offer.holding).difference(line.told.holding) or (offer.free == 0) != (line.told.free == 0)
            if line.number and is_news:
                self._poll(line)

    # -- who there is -------------------------------------------------------------------------------------------------

    async def _look_forever(self) -> None:
        while True:
            try:
                answer = await self._cluster.ask("GET", "/v1/coordinators", until=time.monotonic() + LOOK_S)
                self._take(msgspec.json.decode(answer, type=_Coordinators))
                self.is_connected.set()
            except (PointsmanError, msgspec.MsgspecError) as error:
                logger.warning(
                    "%s can't say which coordinators there are: %s; going on asking", self._cluster.url, error
                )
            await asyncio.sleep(LOOK_S)

    def _take(self, found: _Coordinators) -> None:
        addresses = dict.fromkeys(coordinator.address for coordinator in found.coordinators)
        for address in [address for address in self._lines if address not in addresses]:
            self._lines.pop(address).close()
        for address in addresses:
            if address not in self._lines:
                line = self._lines[address] = _Line(address)
                self._poll(line)

    # -- polls --------------------------------------------------------------------------------------------------------

    def _poll(self, line: _Line) -> None:
        """Begin a poll; the one that waits, if any, counts no more."""
        if line.retry is not None:
            line.retry.cancel()
            line.retry = None
        self._number += 1
        line.number = self._number
        line.told = offer = self._side.offer()
        poll = Poll(self._number, offer.agents, offer.free, offer.holding)
        task = asyncio.create_task(self._ask(line, poll), name=f"poll of {line.coordinator.address}")
        line.polls[task] = None
        task.add_done_callback(line.polls.pop)

    async def _ask(self, line: _Line, poll: Poll) -> None:
        try:
            answer = await self._cluster.ask_coordinator(
                line.coordinator, "POST", f"/v1/workers/{self._worker}/poll", body=poll,
                params={"wait": f"{self._wait_s:g}"}, timeout_s=self._wait_s + ANSWER_S,
            )  # fmt: skip
            handed = msgspec.json.decode(answer, type=Handed)
        except (PointsmanError, msgspec.MsgspecError) as error:
            if poll.number == line.number:
                self._failed(line, error)
            return
        for name in handed.over:
            self._side.over(name)
        if poll.number != line.number:
            return  # the coordinator knows by the later poll that these calls were not taken
        line.backoff_s = BACKOFF_S
        for call in handed.calls:
            self._side.handed(call, line.coordinator)
        self._poll(line)
        if handed.calls:
            self.changed()

    def _failed(self, line: _Line, error: Exception) -> None:
        log = logger.info if isinstance(error, StoreUnavailable) else logger.warning
        log("no calls from coordinator %s: %s", line.coordinator.address, error)
        line.coordinator.is_direct = False
        line.retry = asyncio.get_running_loop().call_later(line.backoff_s, self._poll, line)
        line.backoff_s = min(line.backoff_s * 2, BACKOFF_S_MAX)
        self.tell()  # if it has died, another one will own its runs, and must know what is held
