"""The supervisor of a `plain` process: reads what it says, kills it in the middle, starts it again.

It hands out a ticket once, like a broker that was told "got it": what the dead process had begun is lost, and the next
one goes on with what was not begun.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.triage.agents import SETUP, Setup, prepare, start_clock
from benchmarks.triage.data import Ticket
from benchmarks.triage.figures import Outcome
from benchmarks.triage.plain import Begun, Ended, Line, Ready

ROOT = Path(__file__).parents[2]
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class RivalFailed(Exception):
    """A plain process ended with tickets left that nobody killed it over; what it said is on standard error."""


class Rival:
    """One system of that kind. `mode`: see plain.py."""

    def __init__(self, mode: str, directory: Path, setup: Setup) -> None:
        self._mode = mode
        self._setup = setup
        self._path = prepare(directory, setup)
        self._begun = 0
        self._ended: dict[int, Ended] = {}
        self._last_end = 0.0
        self.killed_at_s: float | None = None

    async def run(self, tickets: Sequence[Ticket]) -> tuple[list[Outcome], float]:
        """What became of the tickets, and the seconds from the first arrival to the last end.

        Raises:
            RivalFailed.
        """
        began = 0.0
        while self._begun < len(tickets):
            was_killed = self.killed_at_s is not None
            process = await self._spawn()
            try:
                assert process.stdin is not None
                if not began:
                    began = time.perf_counter()
                    start_clock(self._path)
                process.stdin.write(b"\n")
                await self._listen(process, began, len(tickets))
            except BaseException:
                process.kill()
                raise
            finally:
                await process.wait()
            if self._begun < len(tickets) and was_killed == (self.killed_at_s is not None):
                raise RivalFailed(f"{self._mode}: exit code {process.returncode} after {self._begun} tickets")
        return [self._outcome(number, ticket) for number, ticket in enumerate(tickets)], self._last_end

    async def _spawn(self) -> asyncio.subprocess.Process:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.triage.plain", self._mode, str(self._begun),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, SETUP: str(self._path), "PYTHONPATH": paths},
        )  # fmt: skip
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line or not isinstance(_decoder.decode(line), Ready):
            raise RivalFailed(f"{self._mode}: it did not start")
        return process

    async def _listen(self, process: asyncio.subprocess.Process, began: float, count: int) -> None:
        assert process.stdout is not None
        async for raw in process.stdout:
            match _decoder.decode(raw):
                case Begun(number=number):
                    self._begun = number + 1
                case Ended() as ended:
                    self._ended[ended.number] = ended
                    self._last_end = time.perf_counter() - began
            if self.killed_at_s is None and len(self._ended) >= count * self._setup.plan.kill_at:
                self.killed_at_s = time.perf_counter() - began
                process.kill()  # what it had written until then is still read

    def _outcome(self, number: int, ticket: Ticket) -> Outcome:
        ended = self._ended.get(number)
        if ended is None:
            return Outcome(ticket, "lost")
        latency = ended.latency_s if ended.status == "answered" else None
        return Outcome(
            ticket, ended.status, ended.saved_by, latency, ended.agent_s, ended.waits_s, ended.named
        )  # fmt: skip
