"""What workers ask of a coordinator: who else there is, calls, and that it takes their results."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pointsman.kernel.events import Emission
from pointsman.ports.agents import CallAddress
from pointsman.ports.workers import AttemptResult, HandedCall, HeldCall, Poll, WorkerFailure
from tests.unit.api.memory_runs import Bench
from tests.unit.api.memory_workers import HERE

KEY = "r1/1/gpu#1"
CALL = HandedCall("gpu", "r1", "gpu#1", KEY, 2, 3, "acme", 900, "00-0-0-01", msgspec.Raw(b'{"n":1}'))
POLL: dict[str, Any] = {"number": 1, "agents": ["gpu"], "free": 1, "holding": [{"key": "r/1/x", "attempt": 1}]}


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.start("patient", id="r1", tenant="acme")
    return bench


async def test_a_poll_is_answered_with_the_call_as_it_is_recorded(bench: Bench) -> None:
    await bench.workers.calls.put(CALL)
    answer = await bench.client.post("/v1/workers/w-1/poll?wait=2.5", json=POLL)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "calls": [
            {
                "agent": "gpu", "run": "r1", "call": "gpu#1", "key": KEY, "attempt": 2, "epoch": 3, "tenant": "acme",
                "deadline_ms": 900, "traceparent": "00-0-0-01", "input": {"n": 1},
            }
        ],
        "over": [{"key": "r/1/x", "attempt": 1}],
    }  # fmt: skip
    assert bench.workers.polls == [("w-1", Poll(1, ("gpu",), 1, (HeldCall("r/1/x", 1),)), 2.5)]


async def test_a_poll_that_waits_is_sent_elsewhere_when_the_server_stops(bench: Bench) -> None:
    poll = asyncio.create_task(bench.client.post("/v1/workers/w-1/poll", json=POLL))
    while not bench.workers.polls:
        await asyncio.sleep(0)
    bench.waiting.stop()
    assert ((await poll).status_code, (await poll).json()["code"]) == (503, "draining")


async def test_a_poll_for_another_coordinator_is_refused(bench: Bench) -> None:
    await bench.workers.calls.put(CALL)
    for method, path in (("POST", "/v1/workers/w-1/poll"), ("DELETE", "/v1/workers/w-1")):
        body = POLL if method == "POST" else None
        wrong = await bench.client.request(method, path, json=body, headers={"Pointsman-Coordinator": "10.0.0.9:1"})
        assert (wrong.status_code, wrong.json()["code"]) == (421, "other_coordinator")
        right = await bench.client.request(method, path, json=body, headers={"Pointsman-Coordinator": HERE})
        assert right.status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0}, {"free": -1}, {"free": 10_001}, {"agents": "gpu"}, {"holding": [{"key": "k"}]},
        {"holding": [{"key": "k", "attempt": 0}]}, {"more": 1},
    ],
)  # fmt: skip
async def test_a_poll_that_says_something_else_is_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    answer = await bench.client.post("/v1/workers/w-1/poll", json={**POLL, **wrong})
    assert answer.status_code == 422, answer.text
    assert bench.workers.polls == []


async def test_results_come_with_an_output_or_a_failure(bench: Bench) -> None:
    said: list[dict[str, Any]] = [
        {"output": {"a": None}, "usd": 0.5, "tokens": 3, "emitted": [{"event": "a.b", "data": 1}]},
        {"output": None},
        {"failure": {"kind": "refused", "message": "no", "retryable": False, "retry_after_s": 2}},
    ]
    for body in said:
        answer = await bench.client.post("/v1/runs/r1/attempts/finish", json={"key": KEY, "attempt": 2, **body})
        assert (answer.status_code, answer.json()) == (200, {"key": KEY, "attempt": 2})
    call = CallAddress("r1", 1, "gpu#1")
    assert bench.workers.results == [
        (call, 2, AttemptResult(b'{"a":null}', None, 0.5, 3, (Emission("a.b", msgspec.Raw(b"1")),))),
        (call, 2, AttemptResult(b"null")),
        (call, 2, AttemptResult(b"null", WorkerFailure("refused", "no", retryable=False, retry_after_s=2.0))),
    ]
    bench.workers.over = True
    late = await bench.client.post("/v1/runs/r1/attempts/finish", json={"key": KEY, "attempt": 2, "output": 1})
    assert (late.status_code, late.json()["code"]) == (409, "attempt_over")


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"output": 1, "failure": {"kind": "x"}}, {"failure": {"kind": ""}}, {"failure": {}},
        {"output": 1, "usd": -1}, {"output": 1, "attempt": 0}, {"output": 1, "key": "other/1/gpu#1"},
        {"output": 1, "emitted": [{"event": 1}]},
    ],
)  # fmt: skip
async def test_a_result_that_says_something_else_is_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    body = {"key": KEY, "attempt": 2, **wrong}
    answer = await bench.client.post("/v1/runs/r1/attempts/finish", json=body)
    assert answer.status_code == 422, answer.text
    assert bench.workers.results == []


async def test_workers_belong_to_the_cluster_and_no_tenant(bench: Bench) -> None:
    for method, path in (
        ("GET", "/v1/coordinators"), ("GET", "/v1/workers"), ("POST", "/v1/workers/w/poll"),
        ("DELETE", "/v1/workers/w"),
    ):  # fmt: skip
        answer = await bench.client.request(method, path, headers={"Pointsman-Tenant": "acme"})
        assert answer.json()["code"] == "cluster_only", (method, path)
    other = {"Pointsman-Tenant": "other"}
    hidden = await bench.client.post(
        "/v1/runs/r1/attempts/finish", json={"key": KEY, "attempt": 2, "output": 1}, headers=other
    )
    assert hidden.json()["code"] == "unknown_run"


async def test_who_there_is(bench: Bench) -> None:
    await bench.workers.calls.put(CALL)
    await bench.client.post("/v1/workers/w-1/poll", json=POLL)
    assert (await bench.client.get("/v1/coordinators")).json()["coordinators"][1] == {
        "name": "two", "address": "127.0.0.1:8102", "incarnation": 2,
    }  # fmt: skip
    assert (await bench.client.get("/v1/workers")).json()["workers"] == [
        {"id": "w-1", "agents": ["gpu"], "free": 1, "holding": 0, "is_polling": False}
    ]
    assert (await bench.client.delete("/v1/workers/w-1")).json() == {"worker": "w-1", "was_known": True}
    assert (await bench.client.delete("/v1/workers/w-2")).json() == {"worker": "w-2", "was_known": False}
