"""A row changed by hand, and the owner killed: one run is quarantined with an exact report, the others end; the doctor
finds it and mends it, and the run goes on to its right result."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.acceptance.test_up import COMMAND, WAIT_S, Up, data_directory, pointsman, until, up

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

STEPS = 25
BAD = "bad"
CHANGE = """
UPDATE streams SET body = '{"call":"step#3","output":100}'
WHERE number = (SELECT number FROM runs WHERE id = 'bad') AND type = 'CallCompleted' AND sequence = 7
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Up]:
    with data_directory() as data, up(data) as running:
        yield running


def sql(cluster: Up, query: str) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(cluster.said["dsn"])
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(ask())


def doctor(cluster: Up, *options: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [*COMMAND, "doctor", "--json", *options], capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "POINTSMAN_STORE": cluster.said["dsn"]},
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_row_changed_by_hand_is_found_and_mended(cluster: Up) -> None:
    url = cluster.url
    ids = [BAD, *(f"good-{number}" for number in range(11))]
    with httpx.Client(base_url=url, trust_env=False) as http:
        for run in ids:
            assert http.post("/v1/runs", json={"workflow": "chain", "id": run, "input": STEPS}).status_code == 201
        victim = until(lambda: cluster.owner(BAD), "somebody owns the run")
        until(lambda: http.get(f"/v1/runs/{BAD}").json()["sequence"] >= 9, "it has some events")

        sql(cluster, CHANGE)
        os.kill(cluster.pid(victim), signal.SIGKILL)

        until(lambda: http.get(f"/v1/runs/{BAD}").json()["status"] == "quarantined", "its next owner has read it")
        for run in ids[1:]:
            result = http.get(f"/v1/runs/{run}/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S).json()
            assert (result["status"], result["output"]) == ("completed", STEPS)
        shown = http.get(f"/v1/runs/{BAD}").json()
        assert shown["failure"]["kind"] == "corrupt_log"
        assert "event 7, a CallCompleted, is not what was appended" in shown["failure"]["message"]
        events = http.get(f"/v1/runs/{BAD}/events", params={"inputs": "true"}).json()["events"]
        assert [event["sequence"] for event in events if "damage" in event] == [7]
    told = pointsman("runs", "show", BAD, url=url).communicate(timeout=WAIT_S)[0]
    assert "damaged: event 7" in told

    code, look = doctor(cluster)
    assert code == 1
    (finding,) = [finding for finding in look["findings"] if finding["check"] == "log"]
    assert (finding["run"], finding["level"], finding["is_repairable"]) == (BAD, "problem", True)
    assert "event 7, a CallCompleted, is not what was appended" in finding["message"]
    assert look["counts"]["runs"] == len(ids)
    assert sql(cluster, "SELECT status FROM runs WHERE id = 'bad'") == [("quarantined",)], "looking changes nothing"

    code, look = doctor(cluster, "--run", BAD, "--repair")
    assert code == 0
    (repaired,) = look["repairs"]
    assert repaired["repeated"]["step#3"] == "bad/1/step#3"
    result = httpx.get(
        f"{url}/v1/runs/{BAD}/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S, trust_env=False
    ).json()
    assert (result["status"], result["output"]) == ("completed", STEPS)

    kept = sql(cluster, "SELECT sequence, body->>'output' FROM quarantined_events WHERE run = 'bad' ORDER BY sequence")
    assert kept[0] == (7, "100"), "what was moved away is what stood there"
    types = sql(cluster, "SELECT type FROM events WHERE run = 'bad' ORDER BY sequence")
    assert types[6] == ("LogRepaired",)
    told = pointsman("runs", "show", BAD, url=url).communicate(timeout=WAIT_S)[0]
    assert "repaired: events 7 to" in told
    code, look = doctor(cluster)
    assert (code, [f for f in look["findings"] if f["check"] != "database"]) == (0, []), look["findings"]
