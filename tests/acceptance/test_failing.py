"""Agents that fail, come and go, with real processes: what one coordinator learns, the others keep to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_up import COMMAND, WAIT_S, Up, answer, data_directory, pointsman, until, up

HERE = Path(__file__)
CLUSTER_APP = f"{HERE.with_name('failing_app.py')}:app"
AGENTS_APP = f"{HERE.with_name('serving_app.py')}:app"

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Up]:
    with data_directory() as data, up(data, app=CLUSTER_APP) as running:
        yield running


@pytest.fixture
def each(cluster: Up) -> Iterator[list[httpx.Client]]:
    """A client of each coordinator, past the router."""
    clients = [
        httpx.Client(base_url=f"http://{child['address']}", trust_env=False, timeout=2 * WAIT_S)
        for child in cluster.said["processes"]
        if child["kind"] == "coordinator"
    ]
    yield clients
    for client in clients:
        client.close()


def run(client: httpx.Client, workflow: str, given: Any = None, **more: Any) -> dict[str, Any]:
    """A run on this coordinator, once it has ended."""
    body = {"workflow": workflow, "input": given, **more}
    response = client.post(f"/v1/runs?wait={WAIT_S:g}", json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


@contextmanager
def agents(url: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`pointsman agents serve`, and what it said of itself."""
    process = subprocess.Popen(
        [*COMMAND, "agents", "serve", AGENTS_APP, "--register", url, "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.wait(WAIT_S)
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate(timeout=WAIT_S)


def asked(each: list[httpx.Client]) -> set[str]:
    """Who gives horoscopes on the coordinators."""
    return {str(run(client, "horoscope", "leo")["output"]) for client in each}


def problems(each: list[httpx.Client]) -> set[str | None]:
    return {client.get("/v1/agents/astrologer").json()["problem"] for client in each}


def test_agents_join_leave_and_are_missed_while_the_cluster_runs(cluster: Up, each: list[httpx.Client]) -> None:
    assert asked(each) == {"leo by anyone"}
    with agents(cluster.url, "--ttl", "600") as (process, said):
        assert said["agents"] == ["astrologer"]
        until(lambda: asked(each) == {f"leo by {said['pid']}"}, "all coordinators use the new agent")
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    until(lambda: problems(each) == {"departed"}, "all coordinators know that it left")
    assert asked(each) == {"leo by anyone"}

    with agents(cluster.url, "--ttl", "1") as (process, said):
        until(lambda: asked(each) == {f"leo by {said['pid']}"}, "all coordinators use it again")
        process.kill()
        until(lambda: problems(each) == {"departed"}, "nobody renews it")
    assert asked(each) == {"leo by anyone"}


def test_a_breaker_opened_by_one_coordinator_holds_on_all_and_closes(cluster: Up, each: list[httpx.Client]) -> None:
    first, *others = each

    def states() -> set[str]:
        return {
            breaker["state"]
            for client in each
            for breaker in client.get("/v1/breakers").json()["breakers"]
            if breaker["agent"] == "fragile"
        }

    with ThreadPoolExecutor(10) as pool:
        outputs = set(pool.map(lambda _: run(first, "throws", "stone")["output"], range(20)))
    assert outputs == {"stone by anyone"}
    until(lambda: states() == {"open"}, "all coordinators see it open")

    def is_passed_over(client: httpx.Client) -> bool:
        """Not when the breaker is due: then the try is its probe, and opens it anew."""
        ended = run(client, "throws", "stone")
        assert ended["output"] == "stone by anyone"
        events = answer("runs", "show", ended["id"], url=cluster.url)["events"]
        reasons = [event["data"]["failure"]["kind"] for event in events if event["type"] == "CallReassigned"]
        return reasons == ["breaker_open"]

    for client in others:
        assert any(is_passed_over(client) for _ in range(3))

    def closed() -> bool:
        """Each try may become a probe; there is none before the breaker is due."""
        run(first, "throws", "feather")
        return states() == {"closed"}

    until(closed, "probes go well, and it closes")
    assert {run(client, "throws", "feather")["output"] for client in each} == {"feather by fragile"}


def test_a_run_stops_before_its_budget_is_exceeded(each: list[httpx.Client]) -> None:
    ended = run(each[0], "spends", budget={"usd": 0.05})
    assert ended["status"] == "failed"
    assert ended["failure"]["kind"] == "budget_exceeded"
    events = each[0].get(f"/v1/runs/{ended['id']}/events").json()["events"]
    # Each costs 0.01 and may cost 0.02: the fifth would begin with 0.01 left.
    assert [event["type"] for event in events].count("CallCompleted") == 4


def test_a_question_outlives_the_coordinator_that_asked_it(cluster: Up, each: list[httpx.Client]) -> None:
    url = cluster.url
    names = [child["name"] for child in cluster.said["processes"] if child["kind"] == "coordinator"]
    assert each[2].post("/v1/runs", json={"workflow": "wonders", "id": "wondering", "input": None}).status_code == 201
    [wonder] = until(lambda: answer("inbox", "ls", "--assignee", "ann", url=url)["tasks"], "a body asks")
    assert each[2].post("/v1/runs", json={"workflow": "asks", "id": "asking", "input": None}).status_code == 201
    [task] = until(lambda: answer("inbox", "ls", "--assignee", "", url=url)["tasks"], "a person is asked")
    os.kill(cluster.pid(names[2]), signal.SIGKILL)
    assert [row["id"] for row in answer("inbox", "ls", url=url)["tasks"]] == [wonder["id"], task["id"]]
    answer("inbox", "answer", wonder["id"], '"glue"', "--by", "ann", url=url)
    assert answer("runs", "result", "wondering", "--timeout", str(WAIT_S), url=url)["output"] == "edited: glue"
    answer("inbox", "answer", task["id"], '"glue"', "--by", "ann", url=url)
    assert answer("runs", "result", "asking", "--timeout", str(WAIT_S), url=url)["output"] == "glue"
    late = pointsman("inbox", "answer", task["id"], '"tape"', "--by", "bob", url=url)
    assert "task_answered: ann answered" in late.communicate(timeout=WAIT_S)[1]
    assert late.returncode == 1


def test_the_drill_loses_no_ticket_to_a_failing_agent_and_a_kill() -> None:
    """On a cluster of its own."""
    options = ("--fail", "billing", "--kill", "1", "--tickets", "400", "--offline", "--json")
    drill = subprocess.run([*COMMAND, "demo", *options], capture_output=True, text=True, timeout=90, check=False)
    assert drill.returncode == 0, drill.stderr
    said = json.loads(drill.stdout)
    assert (said["completed"], said["lost"], said["kills"], said["failed_agent"]) == (400, 0, 1, "telecom_billing")
    seen = said["failing"]
    assert seen["breaker_opened"] >= 1
    assert seen["attempts_failed"] >= 4
    assert seen["calls_reassigned"] >= 1
    assert seen["passed_over"] >= 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("nosuch:app",), 2, "app_not_found: "),
        ((AGENTS_APP, "--host", "0.0.0.0"), 2, "invalid_setting: "),
        ((AGENTS_APP, "--register", "127.0.0.1:1"), 2, "usage: --register 127.0.0.1:1: "),
        ((AGENTS_APP, "--advertise", "http://10.0.0.1:99999"), 1, "cluster_refused: "),
    ],
)
def test_what_can_t_be_served_is_named(cluster: Up, arguments: tuple[str, ...], code: int, says: str) -> None:
    process = pointsman("agents", "serve", *arguments, url=cluster.url)
    _, trouble = process.communicate(timeout=WAIT_S)
    assert process.returncode == code, trouble
    assert f"pointsman: {says}" in trouble
    assert "Traceback" not in trouble
