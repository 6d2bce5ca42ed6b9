"""The routes on the cluster's mode, and what a shed start is told."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.kernel.errors import Overloaded
from tests.unit.api.memory_runs import Bench
from tests.unit.api.test_budgets import code_of


async def test_the_mode_is_shown_and_set() -> None:
    bench = Bench()
    shown = (await bench.client.get("/v1/mode")).json()
    assert shown == {
        "mode": "full", "measured": "full", "pinned": None, "since": None, "cause": "", "by": "",
        "signals": [{"name": "lag", "value": 0.25, "degraded": 0.5, "emergency": 2.0}], "changes": [],
    }  # fmt: skip
    put = await bench.client.put("/v1/mode", json={"mode": "degraded", "by": "ann", "reason": "a sale"})
    assert put.status_code == 200
    assert put.json() == (await bench.client.get("/v1/mode")).json()
    assert (put.json()["pinned"], put.json()["since"]) == ("degraded", "1970-01-01T00:00:01.000Z")
    assert put.json()["changes"] == [
        {"sequence": 1, "at": "1970-01-01T00:00:01.000Z", "type": "ModePinned", "data": {"by": "ann"}}
    ]
    assert (await bench.client.put("/v1/mode", json={"mode": "auto", "by": "ann"})).json()["pinned"] is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"mode": "degraded"}, "invalid_body"),
        ({"mode": "degraded", "by": ""}, "invalid_body"),
        ({"mode": "panic", "by": "ann"}, "invalid_body"),
        ({"mode": "full", "by": "ann", "for": 5}, "unknown_field"),
    ],
)
async def test_a_body_that_is_none_is_refused(body: dict[str, Any], code: str) -> None:
    assert code_of(await Bench().client.put("/v1/mode", json=body)) == (422, code)


async def test_a_tenant_neither_sees_nor_sets_the_mode() -> None:
    bench, header = Bench(), {"Pointsman-Tenant": "acme"}
    assert code_of(await bench.client.get("/v1/mode", headers=header)) == (403, "cluster_only")
    put = await bench.client.put("/v1/mode", json={"mode": "full", "by": "ann"}, headers=header)
    assert code_of(put) == (403, "cluster_only")


async def test_a_start_that_is_shed_says_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()

    async def shed(*_: object) -> None:
        error = Overloaded("too much")
        error.retry_after_s = 7
        raise error

    monkeypatch.setattr(bench.runs, "start", shed)
    answer = await bench.start()
    assert code_of(answer) == (503, "overloaded")
    assert (answer.headers["retry-after"], answer.headers["pointsman-retry-elsewhere"]) == ("7", "once")
