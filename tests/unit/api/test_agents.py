"""Registering agents and looking at them, over HTTP: alone, and through the router."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pointsman.router.service import RouterService
from pointsman.router.settings import RouterSettings
from tests.unit.api.memory_agents import MemoryAgents, MemoryAttempts
from tests.unit.api.memory_runs import Bench, MemoryRuns, served

CARD = {"name": "billing", "url": "http://agents.example/billing", "capabilities": ["refunds"], "timeout": 5}


async def put(bench: Bench, card: Any = None, name: str = "billing", **fields: Any) -> httpx.Response:
    body = {"card": CARD if card is None else card, "ttl_s": 30, **fields}
    return await bench.client.put(f"/v1/agents/{name}", json=body)


async def test_an_agent_registers_renews_and_leaves() -> None:
    bench = Bench()
    first, again = await put(bench), await put(bench)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json() == {
        "name": "billing", "registered": True, "enabled": True, "health": "unknown", "breaker": "closed",
        "problem": None, "expires_at": "2026-01-01T00:00:30.000Z", "workers": None,
        "card": {"name": "billing", "url": "http://agents.example/billing", "capabilities": ["refunds"], "timeout": 5},
    }  # fmt: skip
    assert (await bench.client.get("/v1/agents/billing")).json() == first.json()
    listed = (await bench.client.get("/v1/agents")).json()["agents"]
    assert [agent["name"] for agent in listed] == ["billing", "triage"]
    renewed = await bench.client.post("/v1/agents/billing/renew", json={"ttl_s": 60})
    assert renewed.json()["expires_at"] == "2026-01-01T00:01:00.000Z"
    for was_registered in (True, False):
        left = await bench.client.delete("/v1/agents/billing")
        assert (left.status_code, left.json()) == (200, {"name": "billing", "was_registered": was_registered})
    assert (await bench.client.post("/v1/agents/billing/renew", json={"ttl_s": 60})).status_code == 404


async def test_the_app_s_own_agents_stand() -> None:
    response = await put(Bench(), {**CARD, "name": "triage"}, "triage")
    assert (response.status_code, response.json()["code"]) == (409, "agent_declared")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": "other"}, "path"),
        ({"name": "sleep"}, "path"),
        ({"url": None}, "url"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "soon"}, "float"),
        ({"retry": {"attempts": 0}}, "attempts"),
        ({"health": {"every": 0}}, "every"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_card_that_can_not_be_used(change: dict[str, Any], word: str) -> None:
    bench = Bench()
    response = await put(bench, {**CARD, **change})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_card")
    assert word in response.json()["detail"] or change.get("name") == "sleep"
    assert list(bench.agents.views) == ["triage"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "invalid_json"),
        (b'{"card": {}}', "invalid_body"),
        (b'{"card": {}, "ttl_s": 0.5}', "invalid_body"),
        (b'{"card": {}, "ttl_s": 1e9}', "invalid_body"),
        (b'{"card": {}, "ttl_s": 30, "ttl_s": 40}', "invalid_body"),
        (b'{"card": {}, "ttl": 30}', "unknown_field"),
        (b'{"card": ' + b"[" * 200 + b"]" * 200 + b', "ttl_s": 30}', "invalid_value"),
        (b'{"card": {"name": "billing", "url": "http://a", "description": "a\\u0000"}, "ttl_s": 30}', "invalid_value"),
    ],
)
async def test_registrations_that_are_refused(body: bytes, code: str) -> None:
    bench = Bench()
    response = await bench.client.put("/v1/agents/billing", content=body)
    assert response.json()["code"] == code
    assert list(bench.agents.views) == ["triage"]


async def test_agents_are_switched_off_and_on() -> None:
    bench = Bench()
    off = await bench.client.post("/v1/agents/triage/disable", json={"reason": "it costs too much"})
    assert (off.json()["enabled"], off.json()["problem"]) == (False, "disabled")
    assert bench.agents.reasons == ["it costs too much"]
    assert (await bench.client.post("/v1/agents/triage/disable")).status_code == 200
    on = await bench.client.post("/v1/agents/triage/enable")
    assert (on.json()["enabled"], on.json()["problem"]) == (True, None)


async def test_breakers_are_pinned_and_let_go() -> None:
    bench = Bench()
    pinned = await bench.client.post("/v1/breakers/triage/pin", json={"state": "open"})
    assert pinned.json() == {
        "agent": "triage", "state": "open", "pinned": "open", "reason": "pinned",
        "since": "2026-01-01T00:00:00.000Z", "calls": 0, "failures": 0, "slow": 0,
    }  # fmt: skip
    assert (await bench.client.get("/v1/breakers")).json() == {"breakers": [pinned.json()]}
    assert (await bench.client.post("/v1/breakers/triage/unpin")).json()["pinned"] is None
    half = await bench.client.post("/v1/breakers/triage/pin", json={"state": "half-open"})
    assert (half.status_code, half.json()["code"]) == (422, "invalid_body")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/agents"), ("GET", "/v1/agents/nobody"), ("PUT", "/v1/agents/nobody"),
        ("DELETE", "/v1/agents/nobody"), ("POST", "/v1/agents/nobody/renew"), ("POST", "/v1/agents/nobody/enable"),
        ("POST", "/v1/agents/nobody/disable"), ("GET", "/v1/breakers"), ("POST", "/v1/breakers/nobody/pin"),
        ("POST", "/v1/breakers/nobody/unpin"),
    ],
)  # fmt: skip
async def test_every_route_asks_for_the_token_and_none_is_for_tenants(method: str, path: str) -> None:
    bodies = {"renew": {"ttl_s": 5}, "pin": {"state": "open"}}
    body = bodies.get(path.rpartition("/")[2]) if method == "POST" else None
    bench = Bench(token="secret")
    assert (await bench.client.request(method, path, json=body)).status_code == 401
    known = {"authorization": "Bearer secret"}
    tenant = await bench.client.request(method, path, json=body, headers={**known, "pointsman-tenant": "acme"})
    assert (tenant.status_code, tenant.json()["code"]) == (403, "cluster_only")
    if "nobody" in path and method not in ("PUT", "DELETE"):
        unknown = await bench.client.request(method, path, json=body, headers=known)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "agent_not_found")


async def test_the_router_passes_all_of_it_on() -> None:
    agents, attempts, runs = MemoryAgents(), MemoryAttempts(), MemoryRuns()
    async with served(runs, agents=agents, attempts=attempts) as api:
        router = RouterService(RouterSettings(coordinators=(f"127.0.0.1:{api.port}",)))
        await router.start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{router.port}", trust_env=False) as client:
            statuses = [
                (await client.put("/v1/agents/billing", json={"card": CARD, "ttl_s": 30})).status_code,
                (await client.post("/v1/agents/billing/renew", json={"ttl_s": 30})).status_code,
                (await client.post("/v1/agents/billing/disable")).status_code,
                (await client.get("/v1/agents")).status_code,
                (await client.post("/v1/breakers/billing/pin", json={"state": "closed"})).status_code,
                (await client.delete("/v1/agents/billing")).status_code,
            ]
            await client.post("/v1/runs", json={"workflow": "patient", "input": 1, "id": "r1"})
            where = {"key": "r1/1/a/b#1", "name": "charge it"}
            effects = [await client.put("/v1/runs/r1/effects", params=where, json=n) for n in (1, 2)]
            found = await client.get("/v1/runs/r1/effects", params=where)
            beat = await client.post("/v1/runs/r1/attempts/heartbeat", json={"key": "r1/1/a/b#1", "attempt": 1})
        await router.stop()
    assert statuses == [201, 200, 200, 200, 200, 200]
    assert [effect.status_code for effect in effects] == [201, 200]
    assert found.json() == {"key": "r1/1/a/b#1", "name": "charge it", "value": 1}
    assert beat.status_code == 200
    assert len(attempts.beats) == 1
