"""Clients of the cluster: each starts a run, signals it, waits for its result, and starts the next.

They know the router's URL and the HTTP API, nothing else. What they are told is on the disk before they go on. Whatever
is no success they count and try again with the same id, as the documentation asks of a client.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

import httpx
import msgspec

from pointsman.kernel.errors import PointsmanError
from pointsman.testing.chaos.app import SIGNAL, WORKFLOW, Work, expected
from pointsman.testing.chaos.records import Acknowledged, now_ms, open_records, write

WAIT_S: Final = 5.0
"""How long one request waits for the result."""
PAUSE_S: Final = 0.05
SIGNALLED: Final = 1_000
"""What every signal says."""
REFUSALS: Final = (400, 401, 403, 404, 409, 422)
LEFT_ALONE: Final = ("stopped", "quarantined")
"""A run that is so goes on when a person has looked at it: nobody waits for that here."""
Answered = Callable[[], Awaitable[httpx.Response]]


class StartRefused(PointsmanError):
    """The API does not take what clients want to start, and would not take it later either."""

    code = "start_refused"


class Wanted(msgspec.Struct, frozen=True):
    """What clients start. `result`: what each run must give, when it is sent the signal; None: a workflow of somebody
    else's, of which only that is known that it comes to an end, or to a rest."""

    workflow: str
    input: Any
    result: int | None = None

    @classmethod
    def drill(cls, work: Work) -> Self:
        """Runs of the drills' own app."""
        return cls(WORKFLOW, msgspec.to_builtins(work), expected(work, SIGNALLED))

    @property
    def good(self) -> tuple[str, ...]:
        """Statuses in which a run may end."""
        return ("completed",) if self.result is not None else ("completed", "failed", "cancelled", "parked")


class Load:
    """`clients` of them, until `finish()`. Then each sees its last run to its end, for `patience_s` at most.

    Attributes:
        refused: answers that were no success, by status or error. The run was asked for again.
        told: how many acknowledgements so far.
        duplicates: how many times each start is sent, at the same time.
        created: how many of those answers said that the run was new, by run.
    """

    def __init__(
        self,
        url: str,
        prefix: str,
        ledger: Path,
        *,
        clients: int,
        wanted: Wanted,
        patience_s: float,
        duplicates: int = 1,
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._ledger = open_records(ledger)
        self._clients = clients
        self._wanted = wanted
        self._patience_s = patience_s
        self._numbers = itertools.count(1)
        self._enough = asyncio.Event()
        self._deadline = float("inf")
        self._started: set[int] = set()
        self._all_started = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.refused: Counter[str] = Counter()
        self.told = 0
        self.duplicates = duplicates
        self.created: dict[str, int] = {}

    def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self._clients)]

    async def under_way(self) -> None:
        """Until each client has had a start acknowledged. Raises: StartRefused."""
        started = asyncio.create_task(self._all_started.wait())
        try:
            await asyncio.wait((started, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
        finally:
            started.cancel()

    async def finish(self) -> None:
        """No new runs; until every client has gone. Idempotent."""
        if self._enough.is_set():
            return
        self._enough.set()
        self._deadline = asyncio.get_running_loop().time() + self._patience_s
        for task in self._tasks:
            if task.done() and task.exception() is not None:
                self._deadline = 0.0  # that is why it ends, and nobody needs to be patient
        await asyncio.gather(*self._tasks, return_exceptions=True)
        os.close(self._ledger)
        for task in self._tasks:
            task.result()

    async def _client(self, number: int) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=WAIT_S + 10, trust_env=False, verify=False) as client:
            while not self._enough.is_set():
                await self._see_through(client, f"{self._prefix}-{next(self._numbers)}", number)

    async def _see_through(self, client: httpx.AsyncClient, run: str, number: int) -> None:
        body = {"workflow": self._wanted.workflow, "id": run, "input": self._wanted.input}
        if await self._start(client, body) is None:
            return
        self._started.add(number)
        if len(self._started) == self._clients:
            self._all_started.set()
        path = f"/v1/runs/{run}"
        if self._wanted.result is not None and not await self._signal(client, run, path):
            return
        while asyncio.get_running_loop().time() < self._deadline:
            answer = await self._insist(
                lambda: client.get(f"{path}/result", params={"timeout": WAIT_S}), (200, 202, 404)
            )
            if answer is None or answer.status_code == 404:
                return
            if answer.status_code == 200:
                await self._note("result", run, answer.json().get("output"))
                return
            status = answer.json()["status"]
            if status in LEFT_ALONE or (status == "parked" and status in self._wanted.good):
                return

    async def _signal(self, client: httpx.AsyncClient, run: str, path: str) -> bool:
        """Is it accepted? Not so of a run that was acknowledged and forgotten: the judge will find it."""
        headers = {"Idempotency-Key": f"{run}-signal"}
        accepted = await self._insist(
            lambda: client.post(f"{path}/signals/{SIGNAL}", json=SIGNALLED, headers=headers), (200, 202, 404)
        )
        if accepted is None or accepted.status_code == 404:
            return False
        await self._note("signal", run, headers["Idempotency-Key"])
        return True

    async def _start(self, client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response | None:
        run = str(body["id"])
        answers = await asyncio.gather(
            *(self._insist(lambda: client.post("/v1/runs", json=body), (200, 201)) for _ in range(self.duplicates))
        )
        good = [answer for answer in answers if answer is not None]
        if not good:
            return None
        self.created[run] = sum(answer.status_code == 201 for answer in good)
        await self._note("start", run, self.created[run] > 0)
        return good[0]

    async def _insist(self, ask: Answered, good: tuple[int, ...]) -> httpx.Response | None:
        """Ask until the answer is one of `good`; None when patience is over. Raises: StartRefused."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                response = await ask()
            except httpx.HTTPError as error:
                self.refused[type(error).__name__] += 1
            else:
                if response.status_code in good:
                    return response
                if response.status_code in REFUSALS:
                    raise StartRefused(f"{response.status_code}: {response.text[:300]}")
                self.refused[str(response.status_code)] += 1
            if loop.time() > self._deadline:
                return None
            await asyncio.sleep(PAUSE_S)

    async def _note(self, what: Any, run: str, value: Any) -> None:
        await asyncio.to_thread(write, self._ledger, Acknowledged(what, run, now_ms(), value), durably=True)
        self.told += 1
