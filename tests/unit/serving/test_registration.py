"""Registering with a cluster that is there, that forgets, that is not there yet, and that refuses."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pointsman.agents.card import Card, Health
from pointsman.api import ApiServer, InvalidSetting
from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.agents import AgentView, InvalidCard, Registered
from pointsman.serving import Cluster, ClusterRefused, registered, serve
from pointsman.serving.registration import card_of
from tests.unit.api.memory_agents import MemoryAgents
from tests.unit.serving.conftest import Desk

LIMIT_S = 20.0


class Told(MemoryAgents):
    """Remembers what it was told, and can wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.changed = asyncio.Condition()
        self.refusal: Exception | None = None

    async def register(self, card: bytes, *, ttl_s: float) -> Registered:
        await self._note("register")
        return await super().register(card, ttl_s=ttl_s)

    async def renew(self, name: str, *, ttl_s: float) -> AgentView:
        await self._note("renew")
        return await super().renew(name, ttl_s=ttl_s)

    async def until(self, what: str, times: int) -> None:
        async with asyncio.timeout(LIMIT_S), self.changed:
            await self.changed.wait_for(lambda: self.told.count(what) >= times)

    async def _note(self, what: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        async with self.changed:
            self.told.append(what)
            self.changed.notify_all()


@pytest.fixture
def agents() -> Told:
    return Told()


@pytest.fixture
async def cluster(api: ApiServer) -> Cluster:
    return Cluster(f"http://127.0.0.1:{api.port}/", token="cluster's")


async def test_agents_register_are_renewed_and_leave(desk: Desk, agents: Told, cluster: Cluster) -> None:
    names = {agent.name for agent in desk.app.directory.agents()}
    async with registered(desk.app, cluster, advertise="http://agents.example/", ttl_s=1.0):
        assert set(agents.views) == names | {"triage"}
        card = msgspec.json.decode(agents.views["charge"].card, type=Card)
        declared = desk.app.directory.agent("charge")
        assert declared is not None
        assert card == card_of(declared, "http://agents.example")
        assert card.url == "http://agents.example/agents/charge"
        assert card.health == Health(url="http://agents.example/agents/charge/health")
        assert card.output_schema == {"type": "string"}
        await agents.until("renew", 2 * len(names))
        assert agents.told.count("register") == len(names)
    assert set(agents.views) == {"triage"}
    await cluster.close()


async def test_what_the_cluster_forgot_is_registered_again_at_once(
    desk: Desk, agents: Told, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    async with registered(desk.app, cluster, advertise="http://agents.example", ttl_s=1.0):
        first = agents.told.count("register")
        del agents.views["charge"]
        await agents.until("register", first + 1)
        assert "charge" in agents.views
    assert "no longer registered" not in caplog.text
    await cluster.close()


async def test_a_cluster_that_comes_later_is_waited_for(desk: Desk, agents: Told, cluster: Cluster) -> None:
    agents.refusal = StoreUnavailable()
    async with registered(desk.app, cluster, advertise="http://agents.example", ttl_s=1.0):
        assert agents.told == []
        agents.refusal = None
        await agents.until("register", len(desk.app.directory.agents()))
    await cluster.close()


async def test_a_refusal_is_raised_with_its_reason(desk: Desk, agents: Told, cluster: Cluster, api: ApiServer) -> None:
    agents.refusal = InvalidCard("not at that address")
    with pytest.raises(ClusterRefused, match="not at that address"):
        async with registered(desk.app, cluster, advertise="http://agents.example"):
            pass
    stranger = Cluster(f"http://127.0.0.1:{api.port}", token="guess")
    with pytest.raises(ClusterRefused, match="401 unauthorized"):
        async with registered(desk.app, stranger, advertise="http://agents.example"):
            pass
    await stranger.close()
    await cluster.close()


async def test_serve_serves_registers_and_leaves_when_it_is_cancelled(desk: Desk, agents: Told, api: ApiServer) -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(desk.app, register=f"http://127.0.0.1:{api.port}", cluster_token="cluster's", ready=ready.set_result)
    )
    url = await asyncio.wait_for(ready, LIMIT_S)
    card = msgspec.json.decode(agents.views["echo"].card, type=Card)
    assert card.url == f"{url}/agents/echo"
    serving.cancel()
    await asyncio.wait([serving])
    assert set(agents.views) == {"triage"}


async def test_every_address_is_none_to_be_reached_at(desk: Desk) -> None:
    with pytest.raises(InvalidSetting, match="advertise="):
        await serve(desk.app, register="http://127.0.0.1:1", host="0.0.0.0", token="t")
