"""Who may use what: over every route of the table, and every trick with a path or a host that we know."""

import pytest

from pointsman.api import ApiSettings, InsecureBind, InvalidSetting
from pointsman.api.routing import ApiRoute
from tests.unit.api.memory_inbox import TASK
from tests.unit.api.memory_runs import Bench
from tests.unit.api.test_workers import CALL

TOKEN = "correct-horse-battery-staple"
GOOD = {"Authorization": f"Bearer {TOKEN}"}
PUBLIC = {"/health", "/ready"}
ROUTES = [(min(route.methods - {"HEAD"}), route.path) for route in Bench().api.routes]

ATTEMPT = {"key": "a/1/b#1", "attempt": 1}
BODIES = {
    ("POST", "/v1/runs"): {"workflow": "echo", "input": 1},
    ("PUT", "/v1/agents/{name}"): {"card": {"name": "go", "url": "http://agents.example/"}, "ttl_s": 30},
    ("POST", "/v1/agents/{name}/renew"): {"ttl_s": 30},
    ("POST", "/v1/breakers/{name}/pin"): {"state": "open"},
    ("PUT", "/v1/runs/{run}/effects"): 1,
    ("POST", "/v1/tasks/{task}/answer"): {"value": 1, "by": "ann", "digest": "of-what-is-shown"},
    ("POST", "/v1/tasks/{task}/refuse"): {"by": "ann", "digest": "of-what-is-shown"},
    ("POST", "/v1/tasks/{task}/assign"): {"by": "ann", "assignee": "bob"},
    ("PUT", "/v1/budgets/{scope}/{name}"): {"usd": 1, "by": "ann"},
    ("PUT", "/v1/mode"): {"mode": "auto", "by": "ann"},
    ("POST", "/v1/runs/{run}/attempts/heartbeat"): ATTEMPT,
    ("POST", "/v1/runs/{run}/attempts/spend"): ATTEMPT,
    ("POST", "/v1/runs/{run}/attempts/finish"): {**ATTEMPT, "output": 1},
    ("POST", "/v1/workers/{worker}/poll"): {"number": 1, "agents": ["b"], "free": 1},
}
QUERIES = {"/v1/runs/{run}/result": "?timeout=0", "/v1/runs/{run}/effects": "?key=a/1/b%231&name=n"}


def concrete(path: str, run: str = "a") -> str:
    path = path.replace("{run}", run).replace("{name}", "go").replace("{worker}", "w-1")
    return path.replace("{task}", TASK).replace("{scope}", "agent")


def test_the_table_has_the_routes_that_are_documented_and_only_two_are_public():
    routes = Bench().api.routes
    assert all(isinstance(route, ApiRoute) for route in routes)
    assert {route.path for route in routes if route.public} == PUBLIC
    assert len(ROUTES) == len(set(ROUTES)) == 45


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \u00e4".encode().decode("latin-1"),
        f"Bearer {TOKEN} {TOKEN}",
    ],
)
async def test_no_route_but_the_public_ones_answers_without_the_token(method, path, authorization):
    bench = Bench(token=TOKEN)
    headers = {} if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    response = await bench.client.request(method, concrete(path), headers=headers)
    if path in PUBLIC:
        assert response.status_code == 200
    else:
        assert response.status_code == 401
        assert response.json()["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"
    assert not bench.runs.requests


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_answers_with_the_token(method, path):
    bench = Bench(token=TOKEN)
    bench.client.headers.update(GOOD)
    await bench.start("patient", id="a")
    if path.endswith("/stream"):
        await bench.client.post("/v1/runs/a/signals/go")
    if path.endswith("/redrive"):
        del bench.runs.entries["a"]
        await bench.start("break", id="a")
    await bench.client.put("/v1/agents/go", json=BODIES["PUT", "/v1/agents/{name}"])
    await bench.client.put("/v1/budgets/agent/go", json=BODIES["PUT", "/v1/budgets/{scope}/{name}"])
    await bench.client.put("/v1/runs/a/effects" + QUERIES["/v1/runs/{run}/effects"], json=1)
    if path.endswith("/poll"):
        bench.workers.calls.put_nowait(CALL)
    if path.endswith("/release"):
        bench.runs.quarantine("a")
    response = await bench.client.request(
        method, concrete(path) + QUERIES.get(path, ""), json=BODIES.get((method, path))
    )
    assert response.status_code in (200, 201, 202)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs/health",
        "/v1/runs/ready",
        "/v1/runs/x%2Fhealth",
        "/v1/runs/x/health",
        "/v1/runs/health/events",
        "/v1/runs/..%2f..%2fhealth",
        "/health/../v1/runs",
        "/health/",
        "/ready/",
        "/health%2f",
        "/health%0a",
        "//health",
        "/HEALTH",
        "/v1/runs;/health",
        "/v1/runs%3f/health",
        "/nowhere",
        "/metrics",
        "/metrics/health",
        "/%68ealth%00",
    ],
)
async def test_a_path_that_looks_public_is_not(path):
    bench = Bench(token=TOKEN)
    response = await bench.client.get(path)
    assert response.status_code == 401


async def test_runs_named_like_routes_are_runs():
    bench = Bench(token=TOKEN)
    bench.client.headers.update(GOOD)
    for run in ("health", "ready", "metrics", "stream"):
        await bench.start(id=run)
        assert (await bench.client.get(f"/v1/runs/{run}")).json()["id"] == run
    hidden = await bench.client.get("/v1/runs/x%2Fhealth")
    assert (hidden.status_code, hidden.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Forwarded-For", "X-Original-URL", "Forwarded"])
@pytest.mark.parametrize("value", ["127.0.0.1", "/health", "evil.test/health", "localhost", "a\tb", "[::1]"])
async def test_no_header_about_hosts_or_paths_opens_anything(header, value):
    bench = Bench(token=TOKEN)
    response = await bench.client.get("/v1/runs", headers={header: value})
    assert response.status_code == 401
    response = await bench.client.get("/v1/runs/", headers={header: value, **GOOD})
    assert response.status_code == 404
    assert "evil" not in str(response.headers)


async def test_a_header_that_decides_may_not_be_there_twice():
    bench = Bench(token=TOKEN)
    for name in ("Authorization", "Pointsman-Tenant", "Idempotency-Key", "Content-Type"):
        headers = [(name, "Bearer x"), (name, f"Bearer {TOKEN}")]
        response = await bench.client.get("/v1/runs", headers=headers)
        assert response.json()["code"] == "invalid_header"


async def test_without_a_token_a_foreign_page_is_refused_and_a_local_one_not():
    bench = Bench()
    for origin in (
        "https://evil.test",
        "null",
        "http://127.0.0.1.evil.test",
        "http://[",
        "http://localhost@evil.test",
    ):
        response = await bench.client.post(
            "/v1/runs", content=b'{"workflow":"echo","input":1}', headers={"Origin": origin}
        )
        assert (response.status_code, response.json()["code"]) == (403, "cross_origin")
        problem = response.json()
        assert problem["title"] == problem["detail"], "the whole sentence, on one line"
        assert problem["title"].endswith("this machine.")
    assert not bench.runs.requests
    for origin in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1"):
        assert (await bench.client.get("/v1/runs", headers={"Origin": origin})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.test:7777", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1", "", "[", "a b"]
)
async def test_without_a_token_a_foreign_name_reaches_nothing(host):
    """DNS rebinding: the page's own name has this machine's address by now, and its requests have no Origin."""
    bench = Bench()
    for path in ("/v1/runs", "/metrics", "/nowhere"):
        response = await bench.client.get(path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (403, "foreign_host")
    assert "127.0.0.1 or localhost, or set a token" in response.json()["detail"]
    assert (await bench.client.get("/health", headers={"Host": host})).status_code == 200


async def test_without_a_token_every_name_of_this_machine_alone_is_its_own():
    bench = Bench()
    for host in ("127.0.0.1", "127.0.0.1:7777", "127.9.9.9:1", "[::1]:7777", "localhost", "LocalHost:80"):
        assert (await bench.client.get("/v1/runs", headers={"Host": host})).status_code == 200
        assert (await bench.client.get("/v1/runs", headers={"Host": "evil.test"})).status_code == 403


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "example.test", "127.0.0.1.evil.test", "localhost.x"]
)
def test_binding_elsewhere_than_loopback_needs_a_token(host):
    with pytest.raises(InsecureBind) as refused:
        ApiSettings(host=host).validate()
    assert refused.value.code == "insecure_bind"
    ApiSettings(host=host, token=TOKEN).validate()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_none(host):
    ApiSettings(host=host).validate()


@pytest.mark.parametrize(
    "settings",
    [
        {"token": ""},
        {"token": " x "},
        {"token": "ä"},
        {"token": "a\nb"},
        {"port": -1},
        {"port": 65536},
        {"body_bytes_max": 0},
        {"headers_timeout_s": -1.0},
        {"idle_timeout_s": float("inf")},
        {"json_depth_max": 101},
        {"write_timeout_s": float("nan")},
        {"page_limit_max": 10},
        {"wait_max_s": 1.0},
    ],
)
def test_a_setting_that_can_have_no_effect_is_refused(settings):
    with pytest.raises(InvalidSetting):
        ApiSettings(**settings).validate()


def test_the_token_is_in_no_representation():
    settings = ApiSettings(token=TOKEN)
    assert TOKEN not in repr(settings)
    assert TOKEN not in str(settings.limits())
