"""Coordinators on one Redis server: one is killed, and then the server itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pointsman.cli.up import about
from pointsman.cluster import LocalCluster
from pointsman.demo import journal
from pointsman.demo.counting import completed_calls_repeated
from pointsman.kernel.events import CallCompleted, Recorded, RunCompleted, decode_event
from pointsman.node import hash_seed
from pointsman.stores.redis import RedisStore
from tests.support.fleet import Fleet
from tests.support.http import Connection
from tests.support.redis import RedisServer, redis_server
from tests.support.survivors import started_on_all, until

APP = f"{Path(__file__).with_name('takeover_app.py')}:app"
RUNS = 8
"""On each of the coordinators."""
FOR_EVER = ("--set", "lease_ttl_ms=60000")
"""Longer than the test waits: who is found dead meanwhile was not found by its lease."""
UNHURRIED = ("--set", "lease_ttl_ms=5000")

pytestmark = pytest.mark.slow


@asynccontextmanager
async def coordinators(
    server: RedisServer, directory: Path, names: Sequence[str], *options: str
) -> AsyncIterator[Fleet]:
    members = Fleet(server.url, APP, directory, await hash_seed(server.url))
    try:
        await asyncio.gather(*(members.coordinator(name, *options, routers=()) for name in names))
        yield members
    finally:
        await members.end()


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(server.url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def completed(store: RedisStore, runs: Sequence[str]) -> dict[str, list[Recorded]]:
    """Their events, once all of them are."""

    async def are_completed() -> bool:
        heads = await store.log.heads(runs)
        return len(heads) == len(runs) and all(head.status == "completed" for head in heads.values())

    await until(are_completed)
    return await store.log.read_many(dict.fromkeys(runs, 0), limit=1000)


def committed_calls_repeated(events: dict[str, list[Recorded]], path: Path) -> set[str]:
    epochs: dict[str, int] = {}
    for run, recorded in events.items():
        for event in recorded:
            decoded = decode_event(event)
            if isinstance(decoded, CallCompleted):
                epochs[f"{run}/1/{decoded.call}"] = event.epoch
    return completed_calls_repeated(list(journal.read(path)), epochs)


def outcomes(events: Sequence[Recorded]) -> int:
    return sum(event.type == "CallCompleted" for event in events)


def output(events: Sequence[Recorded]) -> Any:
    last = decode_event(events[-1])
    assert isinstance(last, RunCompleted)
    return msgspec.json.decode(last.output)


async def are_disowned(store: RedisStore, incarnation: int) -> bool:
    return not await store.ownership.owned(incarnation)


async def test_the_runs_of_a_killed_coordinator_go_on_elsewhere(tmp_path: Path, noted: Path, enough: Path) -> None:
    with redis_server() as server:
        async with coordinators(server, tmp_path, ("a", "b", "c"), *FOR_EVER) as members, opened(server) as store:
            runs = await started_on_all(members, RUNS)
            victim = members.members["a"].said["incarnation"]
            orphans = list(await store.ownership.owned(victim))
            assert len(orphans) == RUNS
            members.members["a"].process.kill()
            await until(lambda: are_disowned(store, victim))
            enough.touch()
            events = await completed(store, runs)
            assert all(outcomes(recorded) == output(recorded) for recorded in events.values())
            assert all(events[run][-1].epoch > events[run][0].epoch for run in orphans), "somebody else took them over"
            assert victim not in {member.incarnation for member in await store.liveness.members()}
            assert committed_calls_repeated(events, noted) == set()


async def test_a_killed_server_has_kept_what_it_acknowledged_and_is_nobodys_death(
    tmp_path: Path, noted: Path, enough: Path
) -> None:
    with redis_server() as server:
        async with coordinators(server, tmp_path, ("a", "b"), *UNHURRIED) as members:
            runs = await started_on_all(members, RUNS)
            async with opened(server) as store:
                before = await store.log.read_many(dict.fromkeys(runs, 0), limit=1000)
                living = {member.incarnation for member in await store.liveness.members()}
            noted_before = len(list(journal.read(noted)))
            is_over = asyncio.Event()
            starting = asyncio.create_task(started_until(is_over, members.members["b"].port))
            await until(lambda: grown(noted, noted_before + RUNS))
            server.kill()
            await asyncio.to_thread(server.start)
            is_over.set()
            enough.touch()
            acknowledged = await starting
            assert acknowledged
            async with opened(server) as store:
                events = await completed(store, [*runs, *acknowledged])
                assert {member.incarnation for member in await store.liveness.members()} == living
            for run, known in before.items():
                assert events[run][: len(known)] == known
                assert [event.sequence for event in events[run]] == list(range(1, len(events[run]) + 1))
                assert outcomes(events[run]) == output(events[run])
            assert {event.epoch for recorded in events.values() for event in recorded} == {1}, "a run changed its owner"
            assert committed_calls_repeated(events, noted) == set()


async def test_a_whole_cluster_comes_up_on_it_and_leaves_in_order(tmp_path: Path, noted: Path) -> None:
    with redis_server() as server:
        cluster = LocalCluster(APP, 1, directory=tmp_path / "data", store=server.url)
        await cluster.start()
        connection = Connection(int(cluster.children["router"].address.rpartition(":")[2]))
        try:
            assert about(cluster)["postgres"] == "none"
            await connection.request("POST", "/v1/runs", {"workflow": "one", "id": "run", "input": 0.01})
            answer = await connection.request("GET", "/v1/runs/run/result?timeout=20")
            assert answer.json()["output"] == 0.01
        finally:
            connection.close()
            await cluster.stop()
        async with opened(server) as store:
            assert await store.liveness.members() == []


async def started_until(is_over: asyncio.Event, port: int) -> list[str]:
    """Runs that were acknowledged, one after the other."""
    connection, acknowledged = Connection(port), list[str]()
    try:
        for number in itertools.count():
            if is_over.is_set():
                break
            run = f"late-{number}"
            answer = await connection.request("POST", "/v1/runs", {"workflow": "one", "id": run, "input": 0.01})
            if answer.status == 201:
                acknowledged.append(run)
    finally:
        connection.close()
    return acknowledged


async def grown(path: Path, lines: int) -> bool:
    return len(list(journal.read(path))) >= lines
