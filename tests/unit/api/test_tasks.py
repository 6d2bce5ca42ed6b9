"""The routes on human tasks: alone, and through the router."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pointsman.ports.human_tasks import TaskFilter
from pointsman.router.service import RouterService
from pointsman.router.settings import RouterSettings
from tests.unit.api.memory_inbox import TASK
from tests.unit.api.memory_runs import Bench, MemoryRuns, served

PATH = f"/v1/tasks/{TASK}"
ROW = {
    "id": TASK, "run": "r", "call": "pricer#1", "tenant": "acme", "workflow": "quote", "status": "open",
    "question": "How much?", "opened_at": "2026-01-01T00:00:00.007Z", "closed_at": None,
    "detail": {"agent": "pricer", "kind": "timeout", "message": "no result within 2 s"},
}  # fmt: skip


def code_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def answer(bench: Bench, body: Any, path: str = PATH, **headers: str) -> httpx.Response:
    return await bench.client.post(f"{path}/answer", json=body, headers=headers)


async def test_a_list_has_rows_and_a_cursor_and_passes_its_filter_on() -> None:
    bench = Bench()
    page = await bench.client.get("/v1/tasks")
    assert (page.status_code, page.json()) == (200, {"tasks": [ROW], "cursor": "next"})
    await bench.client.get("/v1/tasks?status=open&status=closed&run=r&tenant=t&limit=7&cursor=c")
    assert bench.inbox.listed == [
        (TaskFilter(), 50, None),
        (TaskFilter(status=("open", "closed"), run="r", tenant="t"), 7, "c"),
    ]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=pending", "invalid_query"),
        ("limit=0", "invalid_query"),
        ("limit=501", "invalid_query"),
        ("colour=red", "invalid_query"),
        ("run=a&run=b", "invalid_query"),
        ("run=%20", "invalid_id"),
        ("tenant=%20", "invalid_id"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused(query: str, code: str) -> None:
    bench = Bench()
    assert code_of(await bench.client.get(f"/v1/tasks?{query}")) == (400, code)
    assert bench.inbox.listed == []


async def test_a_task_has_what_a_person_needs() -> None:
    bench = Bench()
    failure = {"kind": "timeout", "message": "no result within 2 s"}
    assert (await bench.client.get(PATH)).json() == {
        **ROW, "agent": "pricer", "output_schema": {"type": "integer"}, "input": {"n": 1}, "answer": None,
        "attempts": [{"attempt": 1, "agent": "pricer", "at": "2026-01-01T00:00:00.007Z", "failure": failure}],
    }  # fmt: skip


async def test_an_answer_is_202_the_same_again_200_and_another_409() -> None:
    bench = Bench()
    first = await answer(bench, {"value": 12, "by": "ann"})
    assert (first.status_code, first.json()) == (202, {"task": TASK, "run": "r", "repeated": False})
    again = await answer(bench, {"value": 12, "by": "ann"})
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    assert code_of(await answer(bench, {"value": 13, "by": "ann"})) == (409, "task_answered")
    declined = await bench.client.post(f"{PATH}/decline", json={"by": "bob"})
    assert code_of(declined) == (409, "task_answered")
    shown = (await bench.client.get(PATH)).json()["answer"]
    assert shown == {"by": "ann", "at": "2026-01-01T00:00:00.007Z", "output": 12}


async def test_who_declines_says_why() -> None:
    bench = Bench()
    for status in (202, 200):
        assert (await bench.client.post(f"{PATH}/decline", json={"by": "ann", "reason": "no"})).status_code == status
    shown = (await bench.client.get(PATH)).json()["answer"]
    assert shown["failure"] == {"kind": "not_answered", "message": "no", "retryable": False}
    assert "output" not in shown


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"value": "twelve", "by": "ann"}, 422, "invalid_input"),
        ({"value": 12}, 422, "invalid_body"),
        ({"by": "ann"}, 422, "invalid_body"),
        ({"value": 12, "by": ""}, 422, "invalid_body"),
        ({"value": 12, "by": "x" * 129}, 422, "invalid_body"),
        ({"value": 12, "by": "ann", "colour": 1}, 422, "unknown_field"),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused(body: Any, status: int, code: str) -> None:
    bench = Bench()
    assert code_of(await answer(bench, body)) == (status, code)
    assert bench.inbox.given is None


async def test_an_answer_is_bounded_and_json() -> None:
    bench = Bench()
    post = bench.client.post
    json_type = {"content-type": "application/json"}
    assert code_of(await post(f"{PATH}/answer", content=b"", headers=json_type)) == (400, "invalid_json")
    assert code_of(await post(f"{PATH}/decline", content=b"{", headers=json_type)) == (400, "invalid_json")
    deep = b'{"by":"ann","value":' + b"[" * 101 + b"]" * 101 + b"}"
    assert code_of(await post(f"{PATH}/answer", content=deep, headers=json_type)) == (422, "invalid_value")
    twice = b'{"by":"ann","by":"bob","value":1}'
    assert code_of(await post(f"{PATH}/answer", content=twice, headers=json_type)) == (422, "invalid_body")
    reason = await post(f"{PATH}/decline", json={"by": "ann", "reason": "x" * 1_001})
    assert code_of(reason) == (422, "invalid_body")
    assert bench.inbox.given is None


async def test_a_task_of_another_tenant_does_not_exist() -> None:
    bench = Bench()
    other, own = {"Pointsman-Tenant": "other"}, {"Pointsman-Tenant": "acme"}
    get, post = bench.client.get, bench.client.post
    assert code_of(await get(PATH, headers=other)) == (404, "unknown_task")
    assert code_of(await answer(bench, {"value": 1, "by": "eve"}, **other)) == (404, "unknown_task")
    assert code_of(await post(f"{PATH}/decline", json={"by": "eve"}, headers=other)) == (404, "unknown_task")
    assert code_of(await get("/v1/tasks?tenant=acme", headers=other)) == (400, "tenant_mismatch")
    await get("/v1/tasks", headers=own)
    assert [where.tenant for where, _, _ in bench.inbox.listed] == ["acme"]
    assert (await get(PATH, headers=own)).status_code == 200
    assert (await answer(bench, {"value": 1, "by": "ann"}, **own)).status_code == 202


@pytest.mark.parametrize("task", ["nobody", "x" * 65, "a%20b", "a.b", "%C3%A4"])
async def test_a_task_that_is_not_there(task: str) -> None:
    bench = Bench()
    expected = (404, "unknown_task") if task == "nobody" else (400, "invalid_id")
    for response in (
        await bench.client.get(f"/v1/tasks/{task}"),
        await answer(bench, {"value": 1, "by": "ann"}, f"/v1/tasks/{task}"),
        await bench.client.post(f"/v1/tasks/{task}/decline", json={"by": "ann"}),
    ):
        assert code_of(response) == expected


async def test_a_store_that_is_away_is_503() -> None:
    bench = Bench()
    bench.inbox.is_down = True
    response = await bench.client.get("/v1/tasks")
    assert code_of(response) == (503, "store_unavailable")
    assert response.headers["retry-after"]


async def test_the_router_sends_tasks_and_budgets_to_a_coordinator() -> None:
    bench = Bench()
    async with served(MemoryRuns(), inbox=bench.inbox, budgets=bench.budgets) as server:
        router = RouterService(RouterSettings(port=0, coordinators=(f"127.0.0.1:{server.port}",)))
        await router.start()
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{router.port}") as client:
                assert (await client.get("/v1/tasks")).json()["tasks"] == [ROW]
                given = await client.post(f"{PATH}/answer", json={"value": 12, "by": "ann"})
                assert given.status_code == 202
                put = await client.put("/v1/budgets/agent/billing", json={"usd": 1, "by": "ann"})
                assert (put.status_code, put.json()["limit"]["usd"]) == (200, 1.0)
        finally:
            await router.stop()
