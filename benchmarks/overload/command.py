"""`python -m benchmarks overload`: capacity first, then goodput at capacity and at three times as much."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.overload.app import SLOTS, WORKFLOWS
from benchmarks.overload.load import Clients
from benchmarks.triage.figures import machine
from pointsman.cluster import LocalCluster

APP: Final = "benchmarks.overload.app:app"
ROOT: Final = Path(__file__).parents[2]
COORDINATORS: Final = 2
DEADLINE_S: Final = 5.0
SETTINGS: Final = {"shed_wait_s": 2.5, "degraded_wait_s": 1.0, "mode_stay_s": 3.0}
"""A run that waits for 2.5 s has as much left for everything else."""
CLIENTS: Final = 8 * SLOTS
WARM_UP_S: Final = 2.0
TIMES: Final = 3
BACK_S: Final = 30.0
SHARE: Final = 0.8
"""What is asked for: goodput at three times the capacity, of the capacity."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bound", choices=WORKFLOWS, default="agents", help="what the capacity is bound by")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each phase")
    parser.add_argument("--store", help="PostgreSQL of the cluster; an embedded one, fsync on, without")


def main(arguments: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """The figures, and the exit code: 0 when the goodput stays."""
    figures = asyncio.run(measure(arguments.bound, arguments.seconds, arguments.store))
    return figures, 0 if figures["bars"]["goodput_stays"] else 1


async def measure(bound: str, seconds: float, store: str | None) -> dict[str, Any]:
    about = machine()
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with _directory() as directory:
        cluster = LocalCluster(
            APP, COORDINATORS, directory=directory, store=store, settings=SETTINGS,
            environment={"PYTHONPATH": paths},
        )  # fmt: skip
        await cluster.start()
        try:
            figures = await _phases(cluster.url, WORKFLOWS[bound], seconds)
        finally:
            await cluster.stop()
    return {"workload": "overload", "bound": bound, "deadline_s": DEADLINE_S, **figures, "machine": about}


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pointsman-overload-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # as root the embedded server runs as another user, who must reach its data
        yield directory


async def _phases(url: str, workflow: str, seconds: float) -> dict[str, Any]:
    clients = Clients(url, workflow, DEADLINE_S)
    await clients.at_most(CLIENTS, WARM_UP_S)
    capacity = (await clients.at_most(CLIENTS, seconds)).goodput
    await _until_full(url)
    at_capacity = await clients.at_rate(capacity, seconds)
    await _until_full(url)
    overloaded = await clients.at_rate(TIMES * capacity, seconds)
    back_s = await _until_full(url)
    clients.close()
    best = max(capacity, at_capacity.goodput)
    share = overloaded.goodput / best if best else 0.0
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        changes = (await client.get("/v1/mode")).json()["changes"]
    return {
        "capacity_per_s": round(capacity, 1),
        "at_capacity": at_capacity.figures(),
        "at_three_times": overloaded.figures(),
        "share": round(share, 3),
        "mode": [f"{change['data']['mode']} by {change['data'].get('signal') or 'calm'}" for change in changes],
        "full_again_s": back_s,
        "bars": {"goodput_stays": share >= SHARE, "errors": not (at_capacity.errors or overloaded.errors)},
    }


async def _until_full(url: str) -> float | None:
    """How long until the mode is full; None: it was not, within 30 s."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        while loop.time() - began < BACK_S:
            if (await client.get("/v1/mode")).json()["mode"] == "full":
                return round(loop.time() - began, 2)
            await asyncio.sleep(0.1)
    return None
