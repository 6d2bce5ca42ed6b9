"""The routes on runs: statuses, ids, idempotency, pages, signals."""

import asyncio
import hashlib

import msgspec
import pytest

from pointsman.api import ApiServer, ApiSettings
from pointsman.kernel.errors import Draining, StoreUnavailable
from pointsman.ports.runs import Accepted, StateView
from tests.unit.api.memory_runs import Bench


def code_of(response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:pointsman:problem:{problem['code']}"
    assert problem["title"]
    assert problem["detail"]
    return problem["code"]


async def test_a_new_run_is_201_the_same_again_200_and_another_input_409():
    bench = Bench()
    first = await bench.start(id="a", data={"x": 1})
    assert first.status_code == 201
    assert first.headers["location"] == "/v1/runs/a"
    assert first.json()["output"] == {"x": 1}
    assert (await bench.start(id="a", data={"x": 1})).status_code == 200
    other = await bench.start(id="a", data={"x": 2})
    assert (other.status_code, code_of(other)) == (409, "run_conflict")


async def test_a_run_says_its_times_in_utc_with_milliseconds():
    bench = Bench()
    run = (await bench.start(id="a")).json()
    assert run["created_at"] == run["ended_at"] == "2026-01-01T00:00:00.007Z"
    assert run["wake_at"] is None


async def test_the_input_reaches_the_coordinator_byte_for_byte():
    bench = Bench()
    raw = b'{"b": 1.50, "a":[1,  2]}'
    await bench.client.post("/v1/runs", content=b'{"workflow":"echo","input":' + raw + b"}")
    assert bench.runs.requests[0].input == raw


async def test_the_id_comes_from_the_body_else_the_router_else_the_key():
    bench = Bench()
    headers = {"Pointsman-Run-Id": "from-router", "Idempotency-Key": "k"}
    body = {"workflow": "echo", "input": 1}
    await bench.client.post("/v1/runs", json={**body, "id": "from-body"}, headers=headers)
    await bench.client.post("/v1/runs", json=body, headers=headers)
    await bench.client.post("/v1/runs", json={**body, "tenant": "t1"}, headers={"Idempotency-Key": "k"})
    derived = "idem-" + hashlib.sha256(b"t1\0k").hexdigest()[:32]
    assert [request.id for request in bench.runs.requests] == ["from-body", "from-router", derived]


async def test_an_idempotency_key_repeated_is_the_same_run_and_with_other_input_a_conflict():
    bench = Bench()
    headers = {"Idempotency-Key": "order 66".replace(" ", "-")}
    post = bench.client.post
    assert (await post("/v1/runs", json={"workflow": "echo", "input": 1}, headers=headers)).status_code == 201
    assert (await post("/v1/runs", json={"workflow": "echo", "input": 1}, headers=headers)).status_code == 200
    assert (await post("/v1/runs", json={"workflow": "echo", "input": 2}, headers=headers)).status_code == 409


async def test_the_tenant_comes_from_body_or_header_and_they_may_not_differ():
    bench = Bench()
    body = {"workflow": "echo", "input": 1}
    await bench.client.post("/v1/runs", json=body)
    await bench.client.post("/v1/runs", json=body, headers={"Pointsman-Tenant": "h"})
    await bench.client.post("/v1/runs", json={**body, "tenant": "b"})
    assert [request.tenant for request in bench.runs.requests] == ["default", "h", "b"]
    differs = await bench.client.post("/v1/runs", json={**body, "tenant": "b"}, headers={"Pointsman-Tenant": "h"})
    assert code_of(differs) == "tenant_mismatch"
    listed = await bench.client.get("/v1/runs?tenant=b", headers={"Pointsman-Tenant": "h"})
    assert code_of(listed) == "tenant_mismatch"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/result?timeout=0"),
        ("GET", "/events"),
        ("GET", "/stream"),
        ("POST", "/signals/go"),
        ("POST", "/cancel"),
        ("POST", "/release"),
    ],
)
async def test_another_tenants_run_does_not_exist(method, path):
    bench = Bench()
    await bench.start("patient", id="a", tenant="mine")
    foreign = await bench.client.request(method, f"/v1/runs/a{path}", headers={"Pointsman-Tenant": "theirs"})
    assert (foreign.status_code, code_of(foreign)) == (404, "unknown_run")
    own = await bench.client.get("/v1/runs/a", headers={"Pointsman-Tenant": "mine"})
    assert own.status_code == 200


async def test_only_a_quarantined_run_is_released():
    bench = Bench()
    await bench.start("patient", id="a")
    refused = await bench.client.post("/v1/runs/a/release")
    assert (refused.status_code, code_of(refused)) == (409, "not_quarantined")
    bench.runs.quarantine("a")
    released = await bench.client.post("/v1/runs/a/release")
    assert (released.status_code, released.json()["status"]) == (200, "running")


async def test_starting_a_run_that_another_tenant_has_is_a_conflict_and_shows_nothing():
    bench = Bench()
    await bench.start(id="a", tenant="mine", data="secret")
    response = await bench.start(id="a", tenant="theirs", data="secret")
    assert code_of(response) == "run_conflict"


async def test_unknown_workflow_and_unknown_run_are_404():
    bench = Bench()
    assert code_of(await bench.start("nobody")) == "unknown_workflow"
    for path in ("/v1/runs/x", "/v1/runs/x/result", "/v1/runs/x/events", "/v1/runs/x/stream"):
        response = await bench.client.get(path)
        assert (response.status_code, code_of(response)) == (404, "unknown_run")


async def test_a_result_is_200_with_output_or_failure_and_202_while_there_is_none():
    bench = Bench()
    await bench.start(id="good", data=[1])
    await bench.start("break", id="bad")
    await bench.start("patient", id="slow")
    good = await bench.client.get("/v1/runs/good/result")
    assert (good.status_code, good.json()) == (200, {"id": "good", "status": "completed", "output": [1]})
    bad = await bench.client.get("/v1/runs/bad/result")
    assert bad.json()["failure"] == {"kind": "boom", "message": "it broke", "retryable": False}
    slow = await bench.client.get("/v1/runs/slow/result?timeout=0.01")
    assert (slow.status_code, slow.json()) == (202, {"id": "slow", "status": "running"})


async def test_starting_can_wait_for_the_result():
    bench = Bench()
    pending = asyncio.create_task(
        bench.client.post("/v1/runs?wait=10", json={"workflow": "patient", "input": 1, "id": "a"})
    )
    await bench.runs.waiting.wait()
    await bench.client.post("/v1/runs/a/signals/go", json="done")
    response = await pending
    assert (response.status_code, response.json()["output"]) == (201, "done")


async def test_a_stopping_server_ends_waits_so_that_the_client_asks_elsewhere():
    bench = Bench()
    await bench.start("patient", id="a")
    pending = asyncio.create_task(bench.client.get("/v1/runs/a/result?timeout=100"))
    await bench.runs.waiting.wait()
    bench.waiting.stop()
    response = await pending
    assert (response.status_code, code_of(response)) == (503, "draining")
    assert response.headers["pointsman-retry-elsewhere"] == "1"
    assert code_of(await bench.client.get("/v1/runs/a/result")) == "draining"
    assert code_of(await bench.client.get("/ready")) == "not_ready"


async def test_listing_passes_every_filter_on_and_pages_by_cursor():
    bench = Bench()
    for index in range(3):
        await bench.start(id=f"r{index}")
    first = (await bench.client.get("/v1/runs?limit=2")).json()
    assert [run["id"] for run in first["runs"]] == ["r2", "r1"]
    second = (await bench.client.get(f"/v1/runs?limit=2&cursor={first['cursor']}")).json()
    assert ([run["id"] for run in second["runs"]], second["cursor"]) == (["r0"], None)
    await bench.client.get(
        "/v1/runs?status=running&status=failed&workflow=w&tenant=t&attribute=n:3&attribute=team:red:blue"
        "&attribute=s:%223%22"
    )
    where = bench.runs.listed[-1][0]
    assert where.status == ("running", "failed")
    assert (where.workflow, where.tenant) == ("w", "t")
    assert where.attributes == {"n": 3, "team": "red:blue", "s": "3"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs?limit=501",
        "/v1/runs?limit=0",
        "/v1/runs?limit=-1",
        "/v1/runs?limit=ten",
        "/v1/runs?limit=%D9%A3",
        "/v1/runs?limit=1&limit=2",
        "/v1/runs?sort=id",
        "/v1/runs?status=done",
        "/v1/runs?attribute=x",
        "/v1/runs?%ff",
        "/v1/runs?attribute=a:1&attribute=a:2",
        "/v1/runs/a?x=1",
        "/v1/runs/a/result?timeout=301",
        "/v1/runs/a/result?timeout=nan",
        "/v1/runs/a/result?timeout=inf",
        "/v1/runs/a/result?timeout=-1",
        "/v1/runs/a/result?timeout=1e3",
        "/v1/runs/a/events?limit=501",
        "/v1/runs/a/events?after=-1",
        "/v1/runs/a/events?inputs=yes",
        "/v1/runs/a/events?after=99999999999999999999",
        "/v1/runs/a/stream?limit=1",
        "/health?x=1",
        "/metrics?x=1",
        "/v1/coordinator?x=1",
    ],
)
async def test_a_bad_query_is_refused_by_name(path):
    bench = Bench()
    await bench.start(id="a")
    response = await bench.client.get(path)
    assert (response.status_code, code_of(response)) == (400, "invalid_query")


async def test_filter_keys_are_data_whatever_they_say():
    bench = Bench()
    key = "') UNION SELECT version()--"
    await bench.client.get("/v1/runs", params={"attribute": f"{key}:1"})
    assert bench.runs.listed[-1][0].attributes == {key: 1}


async def test_events_come_in_pages():
    bench = Bench()
    await bench.start(id="a", data="in")
    page = (await bench.client.get("/v1/runs/a/events?limit=1")).json()
    assert page["events"][0] == {
        "sequence": 1,
        "at": "2026-01-01T00:00:00.007Z",
        "type": "RunStarted",
        "version": 1,
        "data": "in",
        "epoch": 0,
    }
    assert page["next_after"] == 1
    rest = (await bench.client.get("/v1/runs/a/events?after=1&inputs=true")).json()
    assert [event["sequence"] for event in rest["events"]] == [2]
    assert rest["next_after"] is None


async def test_a_page_of_events_is_full_in_bytes_too():
    bench = Bench(page_bytes_max=10)
    await bench.start(id="a", data="x" * 100)
    page = (await bench.client.get("/v1/runs/a/events")).json()
    assert ([event["sequence"] for event in page["events"]], page["next_after"]) == ([1], 1)
    rest = (await bench.client.get("/v1/runs/a/events?after=1")).json()
    assert [event["sequence"] for event in rest["events"]] == [2]


async def test_a_signal_is_202_repeated_200_and_with_other_content_409():
    bench = Bench()
    await bench.start("patient", id="a")
    headers = {"Idempotency-Key": "k"}
    post = bench.client.post
    first = await post("/v1/runs/a/signals/note", json=1, headers=headers)
    assert (first.status_code, first.json()) == (202, {"run": "a", "key": "k", "repeated": False})
    again = await post("/v1/runs/a/signals/note", json=1, headers=headers)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    assert code_of(await post("/v1/runs/a/signals/note", json=2, headers=headers)) == "duplicate"
    one = (await post("/v1/runs/a/signals/note")).json()
    two = (await post("/v1/runs/a/signals/note")).json()
    assert one["key"] != two["key"]
    assert (await post("/v1/runs/a/signals/go")).status_code == 202
    assert code_of(await post("/v1/runs/a/signals/note")) == "run_ended"


async def test_a_run_is_cancelled_with_or_without_a_reason():
    bench = Bench()
    for body in (None, b"{}", b'{"reason":"enough"}'):
        run = f"r{len(bench.runs.entries)}"
        await bench.start("patient", id=run)
        assert (await bench.client.post(f"/v1/runs/{run}/cancel", content=body)).status_code == 202
        assert (await bench.client.get(f"/v1/runs/{run}")).json()["status"] == "cancelled"
    ended = await bench.client.post("/v1/runs/r0/cancel")
    assert (ended.status_code, code_of(ended)) == (409, "run_ended")


@pytest.mark.parametrize("bad", ["", "a" * 129, "-a", ".a", "a b", "a/b", "ä", "a\n", "a\0", "<script>", "../x"])
async def test_ids_and_names_have_one_form(bad):
    bench = Bench()
    for fields in ({"id": bad}, {"tenant": bad}, {"workflow": bad}):
        body = {"workflow": "echo", "input": 1, **fields}
        response = await bench.client.post("/v1/runs", json=body)
        assert (response.status_code, code_of(response)) == (400, "invalid_id")
    for name in ("Pointsman-Run-Id", "Pointsman-Tenant"):
        headers = [(name.encode(), bad.encode())]
        response = await bench.client.post("/v1/runs", json={"workflow": "echo", "input": 1}, headers=headers)
        assert code_of(response) == "invalid_id"
    assert not bench.runs.requests


async def test_an_id_may_use_every_character_that_ids_have():
    bench = Bench()
    run = "A1._:~@-" + "z" * 120
    assert (await bench.start(id=run)).status_code == 201
    assert (await bench.client.get(f"/v1/runs/{run}")).json()["id"] == run


@pytest.mark.parametrize(
    "attributes",
    [{"a": {}}, {"a": [[1]]}, {"": 1}, [], "x"],
)
async def test_attributes_are_flat(attributes):
    bench = Bench()
    response = await bench.start(attributes=attributes)
    assert (response.status_code, code_of(response)) == (422, "invalid_body")


async def test_attributes_hold_scalars_and_lists_of_them():
    bench = Bench()
    attributes = {"s": "x", "n": 1.5, "b": True, "none": None, "many": ["a", 1]}
    run = (await bench.start(attributes=attributes)).json()
    assert run["attributes"] == attributes


async def test_503_says_when_and_where_to_try_again():
    bench = Bench()
    bench.runs.failure = StoreUnavailable()
    unavailable = await bench.start()
    assert (unavailable.status_code, unavailable.headers["retry-after"]) == (503, "1")
    assert "pointsman-retry-elsewhere" not in unavailable.headers
    bench.runs.failure = Draining()
    assert (await bench.start()).headers["pointsman-retry-elsewhere"] == "1"


async def test_what_nobody_foresaw_is_logged_and_not_shown(caplog):
    bench = Bench()
    bench.runs.failure = ZeroDivisionError("hunter2 at /srv/secret.py")
    response = await bench.client.post(
        "/v1/runs", json={"workflow": "echo", "input": 1}, headers={"Pointsman-Request-Id": "req-7"}
    )
    assert (response.status_code, code_of(response)) == (500, "internal")
    assert "hunter2" not in response.text
    assert "ZeroDivision" not in response.text
    assert response.json()["instance"] == "urn:pointsman:request:req-7"
    assert "req-7" in caplog.text
    assert "hunter2" in caplog.text


async def test_the_operational_routes():
    bench = Bench()
    assert (await bench.client.get("/health")).json() == {"status": "alive"}
    assert (await bench.client.get("/ready")).json() == {"ready": True, "reason": "all is well"}
    bench.status.ready = False
    not_ready = await bench.client.get("/ready")
    assert (not_ready.status_code, code_of(not_ready)) == (503, "not_ready")
    metrics = await bench.client.get("/metrics")
    assert metrics.text == "pointsman_up 1\n"
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (await bench.client.get("/v1/coordinator")).json()["name"] == "c1"


async def test_the_observer_hears_of_routes_and_never_of_paths():
    bench = Bench()
    await bench.start(id="a")
    await bench.client.get("/v1/runs/a")
    await bench.client.get("/v1/anything/else")
    assert [what[:3] for what in bench.seen] == [
        ("/v1/runs", "POST", 201),
        ("/v1/runs/{run}", "GET", 200),
        ("unmatched", "GET", 404),
    ]


async def test_the_public_names():
    accepted = Accepted("r", "k")
    assert not accepted.repeated
    server = ApiServer(Bench().runs, Bench().status, ApiSettings())
    with pytest.raises(RuntimeError):
        _ = server.port
    await server.stop()


async def test_a_failed_run_is_redriven_and_nothing_else_is():
    bench = Bench()
    await bench.start("break", id="a")
    looked = await bench.client.post("/v1/runs/a/redrive", json={"dry_run": True})
    assert (looked.status_code, looked.json()["calls"]) == (200, ["work"])
    assert bench.runs.entries["a"].view.head.status == "failed"
    done = await bench.client.post("/v1/runs/a/redrive", json={"by": "ann", "reason": "fixed"})
    assert (done.status_code, done.json()["number"], done.json()["repeated"]) == (202, 1, False)
    again = await bench.client.post("/v1/runs/a/redrive")
    assert (again.status_code, code_of(again)) == (409, "not_redrivable")
    unknown = await bench.client.post("/v1/runs/nobody/redrive")
    assert (unknown.status_code, code_of(unknown)) == (404, "unknown_run")


@pytest.mark.parametrize("body", [{"sequence": 0}, {"by": "x" * 129}, {"fresh_key": "yes"}, {"key": True}, []])
async def test_a_wish_to_redrive_is_checked(body):
    bench = Bench()
    await bench.start("break", id="a")
    response = await bench.client.post("/v1/runs/a/redrive", json=body)
    assert (response.status_code, bench.runs.entries["a"].view.head.status) == (422, "failed")


async def test_a_run_shows_its_generation():
    bench = Bench()
    assert (await bench.start(id="a")).json()["generation"] == 1


async def test_the_state_of_a_run_is_shown():
    """All null where none was set."""
    bench = Bench()
    await bench.start("patient", id="a")
    none = await bench.client.get("/v1/runs/a/state")
    assert (none.status_code, none.json()) == (200, {"run": "a", "version": None, "value": None, "sequence": None})
    bench.runs.states["a"] = StateView("a", 2, msgspec.Raw(b'{"b":1,"a":1.0}'), 7)
    found = await bench.client.get("/v1/runs/a/state")
    assert found.content == b'{"run":"a","version":2,"value":{"b":1,"a":1.0},"sequence":7}'
    assert (await bench.client.get("/v1/runs/nobody/state")).status_code == 404
    assert (await bench.client.get("/v1/runs/a/state?limit=1")).json()["code"] == "invalid_query"
