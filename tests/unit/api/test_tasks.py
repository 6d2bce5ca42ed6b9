"""The routes on human tasks: alone, and through the router."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pointsman.ports.human_tasks import TaskFilter
from pointsman.router.service import RouterService
from pointsman.router.settings import RouterSettings
from tests.unit.api.memory_inbox import DIGEST, TASK
from tests.unit.api.memory_runs import Bench, MemoryRuns, served

PATH = f"/v1/tasks/{TASK}"
ROW = {
    "id": TASK, "run": "r", "call": "pricer#1", "tenant": "acme", "workflow": "quote", "status": "open",
    "assignee": "ann", "question": "How much?", "opened_at": "2026-01-01T00:00:00.007Z", "closed_at": None,
    "detail": {"agent": "pricer", "kind": "timeout", "message": "no result within 2 s"},
}  # fmt: skip


def code_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def answer(bench: Bench, body: Any, path: str = PATH, **headers: str) -> httpx.Response:
    return await bench.client.post(f"{path}/answer", json={"digest": DIGEST, **body}, headers=headers)


async def refuse(bench: Bench, body: Any, path: str = PATH, **headers: str) -> httpx.Response:
    return await bench.client.post(f"{path}/refuse", json={"digest": DIGEST, **body}, headers=headers)


async def test_a_list_has_rows_and_a_cursor_and_passes_its_filter_on() -> None:
    bench = Bench()
    page = await bench.client.get("/v1/tasks")
    assert (page.status_code, page.json()) == (200, {"tasks": [ROW], "cursor": "next"})
    await bench.client.get("/v1/tasks?status=open&status=closed&run=r&tenant=t&limit=7&cursor=c")
    await bench.client.get("/v1/tasks?workflow=quote&assignee=")
    assert bench.inbox.listed == [
        (TaskFilter(), 50, None),
        (TaskFilter(status=("open", "closed"), run="r", tenant="t"), 7, "c"),
        (TaskFilter(workflow="quote", assignee=""), 50, None),
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
        **ROW, "digest": DIGEST, "agent": "pricer", "output_schema": {"type": "integer"}, "input": {"n": 1},
        "answer": None, "expires_at": "2026-01-01T00:00:01.007Z", "escalate_at": "2026-01-01T00:00:00.507Z",
        "escalate_to": "leads", "escalations": [
            {"assignee": "leads", "at": "2026-01-01T00:00:00.507Z"},
            {"assignee": "board", "at": "2026-01-01T00:00:00.807Z"},
        ],
        "handovers": [{"assignee": "ann", "at": "2026-01-01T00:00:00.007Z", "by": "bob"}],
        "attempts": [{"attempt": 1, "agent": "pricer", "at": "2026-01-01T00:00:00.007Z", "failure": failure}],
    }  # fmt: skip


async def test_an_answer_is_202_the_same_again_200_and_another_409() -> None:
    bench = Bench()
    first = await answer(bench, {"value": 12, "by": "ann"})
    assert (first.status_code, first.json()) == (202, {"task": TASK, "run": "r", "repeated": False, "edited": False})
    again = await answer(bench, {"value": 12, "by": "ann"})
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    assert code_of(await answer(bench, {"value": 13, "by": "ann"})) == (409, "task_answered")
    refused = await refuse(bench, {"by": "bob"})
    assert code_of(refused) == (409, "task_answered")
    shown = (await bench.client.get(PATH)).json()["answer"]
    assert shown == {"by": "ann", "at": "2026-01-01T00:00:00.007Z", "edited": False, "output": 12}


async def test_who_refuses_says_why() -> None:
    bench = Bench()
    for status in (202, 200):
        assert (await refuse(bench, {"by": "ann", "reason": "no"})).status_code == status
    shown = (await bench.client.get(PATH)).json()["answer"]
    assert shown["failure"] == {"kind": "not_answered", "message": "no", "retryable": False}
    assert "output" not in shown


async def test_an_answer_says_what_it_is_to() -> None:
    bench = Bench()
    without = await bench.client.post(f"{PATH}/answer", json={"value": 12, "by": "ann"})
    assert code_of(without) == (422, "invalid_body")
    assert code_of(await refuse(bench, {"by": "ann", "digest": "of another"})) == (409, "answer_misplaced")
    assert bench.inbox.given is None


async def test_a_task_is_given_to_somebody() -> None:
    bench = Bench()
    for assignee in ("bob", "bob", ""):
        given = await bench.client.post(f"{PATH}/assign", json={"assignee": assignee, "by": "ann"})
        assert given.status_code == 202
        assert bench.inbox.row.assignee == assignee
    for body in ({"by": "ann"}, {"assignee": "x" * 129, "by": "ann"}, {"assignee": "bob"}):
        assert code_of(await bench.client.post(f"{PATH}/assign", json=body)) == (422, "invalid_body")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"value": "twelve", "by": "ann"}, 422, "invalid_input"),
        ({"value": 12}, 422, "invalid_body"),
        ({"by": "ann"}, 422, "invalid_body"),
        ({"value": 12, "by": ""}, 422, "invalid_body"),
        ({"value": 12, "by": "x" * 129}, 422, "invalid_body"),
        ({"value": 12, "by": "ann", "colour": 1}, 422, "unknown_field"),
        ({"value": 12, "by": "ann", "digest": "x" * 65}, 422, "invalid_body"),
        ({"value": 12, "by": "ann", "digest": "of another"}, 409, "answer_misplaced"),
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
    assert code_of(await post(f"{PATH}/refuse", content=b"{", headers=json_type)) == (400, "invalid_json")
    deep = b'{"by":"ann","value":' + b"[" * 101 + b"]" * 101 + b"}"
    assert code_of(await post(f"{PATH}/answer", content=deep, headers=json_type)) == (422, "invalid_value")
    twice = b'{"by":"ann","by":"bob","value":1}'
    assert code_of(await post(f"{PATH}/answer", content=twice, headers=json_type)) == (422, "invalid_body")
    reason = await refuse(bench, {"by": "ann", "reason": "x" * 1_001})
    assert code_of(reason) == (422, "invalid_body")
    assert bench.inbox.given is None


async def test_a_task_of_another_tenant_does_not_exist() -> None:
    bench = Bench()
    other, own = {"Pointsman-Tenant": "other"}, {"Pointsman-Tenant": "acme"}
    get = bench.client.get
    assert code_of(await get(PATH, headers=other)) == (404, "unknown_task")
    assert code_of(await answer(bench, {"value": 1, "by": "eve"}, **other)) == (404, "unknown_task")
    assert code_of(await refuse(bench, {"by": "eve"}, **other)) == (404, "unknown_task")
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
        await refuse(bench, {"by": "ann"}, f"/v1/tasks/{task}"),
        await bench.client.post(f"/v1/tasks/{task}/assign", json={"by": "ann", "assignee": "bob"}),
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
                given = await client.post(f"{PATH}/answer", json={"value": 12, "by": "ann", "digest": DIGEST})
                assert given.status_code == 202
                put = await client.put("/v1/budgets/agent/billing", json={"usd": 1, "by": "ann"})
                assert (put.status_code, put.json()["limit"]["usd"]) == (200, 1.0)
        finally:
            await router.stop()
