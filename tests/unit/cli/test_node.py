"""One coordinator process from inside, on the memory store, with a real router in front."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.node import AddressInUse, Node, NodeSettings, free_port, join_address
from pointsman.router import RouterService, RouterSettings
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from tests.unit.cli.conftest import app

WAIT_S = 5.0


@pytest.fixture
async def router() -> AsyncIterator[RouterService]:
    service = RouterService(RouterSettings(port=0))
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def http(router: RouterService) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{router.port}", trust_env=False) as client:
        yield client


async def rows(http: httpx.AsyncClient) -> dict[str, str]:
    found = (await http.get("/router/coordinators")).json()["coordinators"]
    return {row["name"]: row["state"] for row in found}


async def until(http: httpx.AsyncClient, wanted: Callable[[dict[str, str]], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not wanted(await rows(http)):
            await asyncio.sleep(0.01)


def node(database: MemoryDatabase, router: RouterService, name: str) -> Node:
    settings = NodeSettings(coordinator=CoordinatorSettings(name=name), routers=[f"http://127.0.0.1:{router.port}"])
    return Node(app, MemoryStore(database), settings)


async def test_it_announces_itself_serves_and_leaves(router: RouterService, http: httpx.AsyncClient) -> None:
    one = node(MemoryDatabase(), router, "one")
    await one.start()
    await until(http, lambda known: known == {"one": "live"})
    response = await http.post("/v1/runs?wait=5", json={"workflow": "greet", "input": "node"})
    assert (response.status_code, response.json()["output"]) == (201, "hello node at last")
    await one.stop()
    await one.stop()
    assert await rows(http) == {"one": "leaving"}


async def test_what_it_leaves_goes_on_elsewhere(router: RouterService, http: httpx.AsyncClient) -> None:
    database = MemoryDatabase()
    one, two = node(database, router, "one"), node(database, router, "two")
    await one.start()
    await until(http, lambda known: known == {"one": "live"})
    assert (await http.post("/v1/runs", json={"workflow": "waits", "id": "w", "input": None})).status_code in (201, 422)
    await two.start()
    await one.stop()
    assert (await http.get("/ready")).status_code == 200
    assert (await http.get("/v1/coordinator")).json()["name"] == "two"
    await two.stop()


async def test_limits_are_told_and_secrets_are_not(router: RouterService) -> None:
    one = node(MemoryDatabase(), router, "one")
    await one.start()
    said = one.describe()
    assert said["limits"]["lease_ttl_ms"] == 3_000
    assert said["limits"]["api.idle_timeout_s"] == 75.0
    assert said["address"].startswith("127.0.0.1:")
    assert "token" not in str(said)
    await one.stop()


async def test_a_taken_port_is_a_named_error(router: RouterService) -> None:
    with pytest.raises(AddressInUse, match=f"127.0.0.1:{router.port}"):
        free_port("127.0.0.1", router.port)


def test_addresses() -> None:
    assert join_address("127.0.0.1", 1) == "127.0.0.1:1"
    assert join_address("::1", 1) == "[::1]:1"
