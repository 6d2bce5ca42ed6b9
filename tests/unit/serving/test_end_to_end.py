"""A whole coordinator, with its API, and a service of agents that registers itself while the system runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import msgspec
import pytest

from pointsman import App, Context, Run
from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import AgentError
from pointsman.kernel.policy.retry import Retry
from pointsman.node import Node, NodeSettings
from pointsman.serving import AgentServer, Cluster, registered
from pointsman.stores.memory.store import MemoryStore

LIMIT_S = 30


def workflows() -> App:
    """What the coordinator runs: it declares no agent, and calls them by name."""
    app = App("desk")

    @app.workflow(version=1)
    async def support(run: Run, ticket: str) -> str:
        return str(await run.call("billing", ticket))

    app.events("ticket.opened", ends=["ticket.billed"])
    return app


class Service:
    """What the other process serves: the first attempt charges, and fails after that."""

    def __init__(self) -> None:
        self.app = App("billing desk")
        self.charges: list[str] = []
        self.attempts: list[int] = []
        self.app.agent(name="billing", retry=Retry(attempts=3, base=0.01), timeout=10)(self.billing)

    async def billing(self, ticket: str, ctx: Context) -> str:
        async def charge() -> str:
            self.charges.append(ctx.idempotency_key)
            return f"charge {len(self.charges)} for {ticket}"

        self.attempts.append(ctx.attempt)
        ctx.spend(usd=0.01)
        charged = str(await ctx.once("charge", charge))
        if ctx.attempt == 1:
            raise AgentError("the printer is on fire", kind="printer_on_fire", retryable=True)
        return charged


@dataclass
class Desk:
    url: str
    client: httpx.AsyncClient

    async def result(self, run: str) -> dict[str, object]:
        response = await self.client.get(f"/v1/runs/{run}/result", params={"timeout": LIMIT_S})
        return dict(response.json())

    async def events(self, run: str) -> list[dict[str, object]]:
        return list((await self.client.get(f"/v1/runs/{run}/events")).json()["events"])


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    node = Node(workflows(), MemoryStore(), NodeSettings(agents=AgentAddresses(allow_private=True)))
    await node.start()
    url = f"http://{node.address}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=LIMIT_S + 5) as client:
        yield Desk(url, client)
    await node.stop()


async def test_a_service_that_registers_is_used_and_its_effect_survives_a_retry(desk: Desk) -> None:
    service, cluster = Service(), Cluster(desk.url)
    server = AgentServer(service.app, cluster=cluster)
    await server.start()
    async with registered(service.app, cluster, advertise=f"http://127.0.0.1:{server.port}"):
        shown = (await desk.client.get("/v1/agents/billing")).json()
        assert (shown["registered"], shown["problem"]) == (True, None)
        await desk.client.post("/v1/runs", json={"workflow": "support", "input": "T1", "id": "r1"})
        result = await desk.result("r1")
    assert result["output"] == "charge 1 for T1"
    assert service.charges == ["r1/1/billing#1"]
    assert service.attempts == [1, 2]
    events = await desk.events("r1")
    assert [event["type"] for event in events].count("EffectRecorded") == 1
    assert "printer_on_fire" in msgspec.json.encode(events).decode()
    await server.stop()
    await cluster.close()


async def test_a_server_without_a_cluster_records_at_the_callback(desk: Desk) -> None:
    service, cluster = Service(), Cluster(desk.url)
    server = AgentServer(service.app)
    await server.start()
    async with registered(service.app, cluster, advertise=f"http://127.0.0.1:{server.port}"):
        await desk.client.post("/v1/runs", json={"workflow": "support", "input": "T2", "id": "r2"})
        assert (await desk.result("r2"))["output"] == "charge 1 for T2"
    assert len(service.charges) == 1
    left = await desk.client.get("/v1/agents/billing")
    assert left.status_code == 404 or left.json()["problem"] == "departed"
    await asyncio.gather(server.stop(), cluster.close())


async def test_a_service_that_registers_is_triggered_by_the_events_on_its_card(desk: Desk) -> None:
    app, cluster = App("billing desk"), Cluster(desk.url)

    @app.on("ticket.opened")
    async def classify(ticket: str, ctx: Context) -> None:
        ctx.emit("ticket.classified", {"ticket": ticket, "kind": "billing"})

    @app.on("ticket.classified")
    def bill(classified: dict[str, str], ctx: Context) -> int:
        ctx.emit("ticket.billed", f"{classified['ticket']} for {classified['kind']}")
        return 5

    start = {"workflow": "ticket.opened", "input": "T3"}
    server = AgentServer(app, cluster=cluster)
    await server.start()
    async with registered(app, cluster, advertise=f"http://127.0.0.1:{server.port}"):
        assert (await desk.client.get("/v1/agents/bill")).json()["card"]["on"] == ["ticket.classified"]
        await desk.client.post("/v1/runs", json={**start, "id": "r3"})
        billed = {"event": "ticket.billed", "data": "T3 for billing", "by": "bill"}
        assert (await desk.result("r3"))["output"] == [billed]
    await desk.client.post("/v1/runs", json={**start, "id": "r4"})
    failed = await desk.result("r4")
    assert "to which nobody subscribes" in msgspec.json.encode(failed).decode(), "it has left"
    await asyncio.gather(server.stop(), cluster.close())
