"""People who see to runs that went wrong: dead letters are redriven, sometimes by two at once; what is quarantined is
looked at by the doctor, mended, and released."""

from __future__ import annotations

import asyncio
import random

from pointsman.doctor.examination import examine
from pointsman.doctor.findings import Counts
from pointsman.doctor.repair import repair
from pointsman.ports.event_log import RunFilter
from pointsman.ports.runs import Redrive
from pointsman.testing.sim.client import Clients, Surroundings
from pointsman.testing.sim.node import Node

FAILED = RunFilter(status=("failed",))
LOOK_S = 0.1
"""Virtual seconds between two looks for what is quarantined."""


class Rescue:
    """Redrives failed runs, and mends and releases quarantined ones.

    Attributes:
        cured: runs whose code is mended: it does no harm any more.
    """

    def __init__(self, world: Surroundings, clients: Clients, rng: random.Random, *, span_s: float) -> None:
        self.cured: set[str] = set()
        self._database = world.database
        self._clients = clients
        self._rng = rng
        self._span_s = span_s
        self._wishes = 0

    async def work(self) -> None:
        """Go through the dead letters now and then."""
        for _ in range(self._rng.choice((1, 2, 3))):
            await asyncio.sleep(self._rng.random() * self._span_s)
            await self._go_through_dead_letters()

    async def _go_through_dead_letters(self) -> None:
        async def listed(node: Node) -> str:
            await node.runs.list(FAILED, limit=50)
            return "listed"

        await self._clients.operate("dead letters", "", "", listed)
        heads = self._database.reader.heads()
        failed = {head.id: head.sequence for head in heads if head.status == "failed"}
        chosen = [run for run in failed if self._rng.random() < 0.6]
        if heads and self._rng.random() < 0.1:  # by mistake
            chosen.append(self._rng.choice(heads).id)
        people = [self._redrive(run, failed.get(run)) for run in chosen for _ in range(self._rng.choice((1, 1, 2)))]
        await asyncio.gather(*people)

    async def _redrive(self, run: str, sequence: int | None) -> None:
        self._wishes += 1
        wish = Redrive(run, sequence, by=f"o{self._wishes}", has_fresh_key=self._rng.random() < 0.2)
        looks = self._rng.random() < 0.3

        async def redriven(node: Node) -> str:
            if looks:
                await node.runs.redrive_plan(run)
            done = await node.runs.redrive(wish)
            return f"{done.number} {done.by if done.repeated else wish.by}"

        await self._clients.operate("redrive", run, wish.by, redriven)

    # -- quarantine ------

    async def keep_looking(self) -> None:
        """For what is held back, until the schedule is over."""
        while True:
            await asyncio.sleep(LOOK_S)
            held = [run.id for run in self._database.open_runs_now() if run.status == "quarantined"]
            async with asyncio.TaskGroup() as people:  # waits for each of them, also when the schedule is over
                for run in held:
                    people.create_task(self._see_to(run))

    async def _see_to(self, run: str) -> None:
        """Ask the doctor; what he can't repair needs other code, and is released with it."""
        findings = 0

        async def mended(node: Node) -> str:
            nonlocal findings
            found = [finding async for finding in examine(node.store, Counts(), [run])]
            findings = sum(finding.is_repairable for finding in found)
            done = await repair(node.store, run, node.clock.now())
            return f"repaired {len(done.did)}"

        async def released(node: Node) -> str:
            await node.runs.release(run)
            return "released"

        await self._clients.operate("repair", run, "", mended)
        if not findings:
            self.cured.add(run)
            await self._clients.operate("release", run, "", released)
