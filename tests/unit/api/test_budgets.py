"""The routes on shared budgets, over the real verbs on the memory store."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.api.memory_runs import Bench

BILLING = "/v1/budgets/agent/billing"


def code_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def test_a_budget_is_set_shown_and_listed() -> None:
    bench = Bench()
    assert code_of(await bench.client.get(BILLING)) == (404, "unknown_budget")
    put = await bench.client.put(BILLING, json={"usd": 12.5, "calls": 100, "by": "ann"})
    limit = {"usd": 12.5, "tokens": None, "calls": 100}
    nothing = {"usd": 0.0, "tokens": None, "calls": 0}
    assert (put.status_code, put.json()) == (
        200,
        {
            "scope": "agent", "name": "billing", "limit": limit, "per": None, "by": "ann", "spent": nothing,
            "reserved": nothing, "free": limit, "tranches": 0, "window_ends_at": None,
        },
    )  # fmt: skip
    assert (await bench.client.get(BILLING)).json() == put.json()
    tenant = await bench.client.put("/v1/budgets/tenant/acme", json={"tokens": 5, "per": 3600, "by": "ann"})
    assert tenant.json()["window_ends_at"].endswith(":00:00.000Z")
    first = (await bench.client.get("/v1/budgets?limit=1")).json()
    assert ([budget["name"] for budget in first["budgets"]], first["cursor"]) == (["billing"], "agent/billing")
    rest = (await bench.client.get("/v1/budgets", params={"cursor": first["cursor"]})).json()
    assert ([budget["name"] for budget in rest["budgets"]], rest["cursor"]) == (["acme"], None)


async def test_a_budget_without_a_limit_is_set_as_such() -> None:
    bench = Bench()
    budget = (await bench.client.put(BILLING, json={"by": "ann"})).json()
    assert budget["limit"] == budget["free"] == {"usd": None, "tokens": None, "calls": None}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"usd": 1}, 422, "invalid_body"),
        ({"usd": 1, "by": ""}, 422, "invalid_body"),
        ({"usd": -1, "by": "ann"}, 422, "invalid_body"),
        ({"usd": 1e10, "by": "ann"}, 422, "invalid_body"),
        ({"tokens": 1.5, "by": "ann"}, 422, "invalid_body"),
        ({"calls": -1, "by": "ann"}, 422, "invalid_body"),
        ({"calls": 1, "per": 0.5, "by": "ann"}, 422, "invalid_body"),
        ({"seconds": 1, "by": "ann"}, 422, "unknown_field"),
        ({"calls": 1, "by": "declaration"}, 422, "invalid_value"),
    ],
)
async def test_what_is_no_budget_is_refused(body: Any, status: int, code: str) -> None:
    bench = Bench()
    assert code_of(await bench.client.put(BILLING, json=body)) == (status, code)
    assert code_of(await bench.client.get(BILLING)) == (404, "unknown_budget")


async def test_only_agents_and_tenants_have_budgets() -> None:
    bench = Bench()
    body = {"usd": 1, "by": "ann"}
    assert code_of(await bench.client.put("/v1/budgets/run/r", json=body)) == (404, "unknown_budget")
    assert code_of(await bench.client.get("/v1/budgets/run/r")) == (404, "unknown_budget")
    assert code_of(await bench.client.put("/v1/budgets/agent/a%20b", json=body)) == (400, "invalid_id")
    for cursor in ("x", "run/r", "agent/"):
        assert code_of(await bench.client.get("/v1/budgets", params={"cursor": cursor})) == (400, "invalid_query")


async def test_a_tenant_neither_sees_nor_raises_budgets() -> None:
    bench = Bench()
    header = {"Pointsman-Tenant": "acme"}
    own = "/v1/budgets/tenant/acme"
    assert code_of(await bench.client.put(own, json={"usd": 1, "by": "eve"}, headers=header)) == (403, "cluster_only")
    assert code_of(await bench.client.get(own, headers=header)) == (403, "cluster_only")
    assert code_of(await bench.client.get("/v1/budgets", headers=header)) == (403, "cluster_only")
