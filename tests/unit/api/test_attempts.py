"""What an agent behind HTTP says of its attempt: effects of which the first wins, heartbeats, spending."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.kernel.policy.amounts import Amount
from pointsman.ports.agents import CallAddress
from tests.unit.api.memory_runs import Bench

KEY = "r1/2/review/billing#1"
CALL = CallAddress("r1", 2, "review/billing#1")


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start("patient", id="r1", tenant="acme")
    return bench


async def test_of_two_effects_the_first_stands(bench: Bench) -> None:
    where = {"key": KEY, "name": "charge"}
    missing = await bench.client.get("/v1/runs/r1/effects", params=where)
    assert (missing.status_code, missing.json()["code"]) == (404, "effect_not_found")
    first = await bench.client.put("/v1/runs/r1/effects", params=where, content=b'{"b":  1, "a": null}')
    second = await bench.client.put("/v1/runs/r1/effects", params=where, json=2)
    found = await bench.client.get("/v1/runs/r1/effects", params=where)
    assert (first.status_code, second.status_code, found.status_code) == (201, 200, 200)
    assert first.json() == second.json() == found.json()
    assert first.json() == {"key": KEY, "name": "charge", "value": {"a": None, "b": 1}}
    assert bench.attempts.effects == {(CALL, "charge"): b'{"a":null,"b":1}'}


async def test_a_generation_does_not_see_the_effects_of_another(bench: Bench) -> None:
    await bench.client.put("/v1/runs/r1/effects", params={"key": KEY, "name": "charge"}, json=1)
    later = {"key": KEY.replace("/2/", "/3/"), "name": "charge"}
    assert (await bench.client.get("/v1/runs/r1/effects", params=later)).status_code == 404


async def test_an_ended_run_takes_no_effects(bench: Bench) -> None:
    bench.attempts.run_ended = True
    response = await bench.client.put("/v1/runs/r1/effects", params={"key": KEY, "name": "x"}, json=1)
    assert (response.status_code, response.json()["code"]) == (409, "run_ended")


async def test_heartbeats_and_spending(bench: Bench) -> None:
    beat = await bench.client.post("/v1/runs/r1/attempts/heartbeat", json={"key": KEY, "attempt": 3})
    spent = await bench.client.post(
        "/v1/runs/r1/attempts/spend", json={"key": KEY, "attempt": 3, "usd": 0.0125, "tokens": 9}
    )
    assert beat.json() == spent.json() == {"key": KEY, "attempt": 3}
    assert bench.attempts.beats == [(CALL, 3)]
    assert bench.attempts.spent == [(CALL, 3, Amount(usd_micros=12_500, tokens=9))]
    bench.attempts.over = True
    late = await bench.client.post("/v1/runs/r1/attempts/heartbeat", json={"key": KEY, "attempt": 3})
    assert (late.status_code, late.json()["code"]) == (409, "attempt_over")


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 400, "invalid_query"),
        ({"key": KEY}, 400, "invalid_query"),
        ({"key": KEY, "name": "n" * 129}, 400, "invalid_query"),
        ({"key": KEY, "name": "a\0"}, 422, "invalid_value"),
        ({"key": KEY, "name": "a", "call": "b"}, 400, "invalid_query"),
        ({"key": "r2/1/a#1", "name": "a"}, 422, "invalid_value"),
        ({"key": "r1", "name": "a"}, 422, "invalid_value"),
        ({"key": "r1/0/a#1", "name": "a"}, 422, "invalid_value"),
    ],
)
async def test_effects_without_a_sound_address(bench: Bench, params: dict[str, str], status: int, code: str) -> None:
    for ask in (
        await bench.client.get("/v1/runs/r1/effects", params=params),
        await bench.client.put("/v1/runs/r1/effects", params=params, json=1),
    ):
        assert (ask.status_code, ask.json()["code"]) == (status, code)
    assert bench.attempts.effects == {}


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "invalid_json"), (b"{", "invalid_value"), (b"NaN", "invalid_value"), (b'"\\u0000"', "invalid_value"),
     (b"[" * 200 + b"]" * 200, "invalid_value")],
)  # fmt: skip
async def test_effects_that_no_store_could_hold(bench: Bench, body: bytes, code: str) -> None:
    response = await bench.client.put("/v1/runs/r1/effects", params={"key": KEY, "name": "a"}, content=body)
    assert response.json()["code"] == code
    assert bench.attempts.effects == {}


async def test_the_depth_that_the_settings_allow_holds_for_effects() -> None:
    bench = Bench(json_depth_max=3)
    await bench.start("patient", id="r1")
    statuses = [
        (await bench.client.put("/v1/runs/r1/effects", params={"key": KEY, "name": "a"}, content=body)).status_code
        for body in (b"[[[[1]]]]", b"[[[1]]]")
    ]
    assert statuses == [422, 201]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"attempt": 0}, "invalid_body"), ({"usd": -1}, "invalid_body"), ({"usd": 1e12}, "invalid_body"),
        ({"tokens": -1}, "invalid_body"), ({"tokens": 1.5}, "invalid_body"), ({"eur": 1}, "unknown_field"),
        ({"key": "r2/1/a#1"}, "invalid_value"),
    ],
)  # fmt: skip
async def test_spending_that_is_refused(bench: Bench, change: dict[str, Any], code: str) -> None:
    body = {"key": KEY, "attempt": 1, **change}
    response = await bench.client.post("/v1/runs/r1/attempts/spend", json=body)
    assert response.json()["code"] == code
    assert bench.attempts.spent == []


async def test_another_tenant_s_run_is_unknown(bench: Bench) -> None:
    bodies: list[tuple[str, str, Any]] = [
        ("GET", f"effects?key={KEY.replace('#', '%23')}&name=a", None),
        ("PUT", f"effects?key={KEY.replace('#', '%23')}&name=a", 1),
        ("POST", "attempts/heartbeat", {"key": KEY, "attempt": 1}),
        ("POST", "attempts/spend", {"key": KEY, "attempt": 1}),
    ]
    for method, path, body in bodies:
        other, own = [
            await bench.client.request(method, f"/v1/runs/r1/{path}", json=body, headers={"pointsman-tenant": tenant})
            for tenant in ("other", "acme")
        ]
        assert (other.status_code, other.json()["code"]) == (404, "unknown_run")
        assert own.is_success or own.json()["code"] == "effect_not_found"
