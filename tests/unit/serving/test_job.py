"""How a worker brings a result, to a cluster that answers what a test says."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pointsman import App
from pointsman.ports.workers import HandedCall
from pointsman.serving import Cluster
from pointsman.serving.cluster import COORDINATOR_HEADER, Coordinator
from pointsman.serving.job import Job
from pointsman.transports.local import LocalTransport
from tests.unit.transports.support import Seen, response, serving


def renderer() -> App:
    app = App("gpu")

    @app.agent
    async def render(scene: str) -> str:
        return f"{scene}, two hours of GPU"

    return app


async def brought(*statuses: int) -> list[tuple[bool, dict[str, Any]]]:
    """What comes to a cluster that answers with these, one after the other; and: was it for the coordinator that gave
    the call?"""
    left = list(statuses)

    async def handle(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(response(left.pop(0), b'{"code": "said_so", "detail": "by the test"}'))

    async with serving(handle) as server:
        cluster = Cluster(f"http://127.0.0.1:{server.port}")
        agent = renderer().directory.agent("render")
        assert agent is not None
        call = HandedCall(
            "render", "r", "render#1", "r/1/render#1", 1, 1, "default", 60_000, "", msgspec.Raw(b'"dawn"')
        )
        transport = LocalTransport(threads_max=1)
        job = Job(cluster, Coordinator("127.0.0.1:1"), call, agent, lambda: None)
        async with asyncio.timeout(30):
            await job.run(transport)
        await transport.close()
        await cluster.close()
        assert not left
        return [(COORDINATOR_HEADER.lower() in seen.headers, msgspec.json.decode(seen.body)) for seen in server.seen]


async def test_a_result_that_could_not_be_passed_on_is_brought_again_as_it_is() -> None:
    """Whichever part of the way failed: a coordinator between two owners, one that died, a router without any."""
    told = await brought(503, 502, 500, 504, 200)
    assert [to_giver for to_giver, _ in told] == [True, False, False, False, False]
    assert {said.get("output") for _, said in told} == {"dawn, two hours of GPU"}


@pytest.mark.parametrize("status", [401, 404, 409, 421, 429])
async def test_a_refusal_that_says_nothing_of_the_result_does_not_make_it_a_failure(status: int) -> None:
    """Another process may have the address of the coordinator that gave the call."""
    told = await brought(status, 200)
    assert [to_giver for to_giver, _ in told] == [True, False]
    told += await brought(status, 404)
    assert {said.get("output") for _, said in told} == {"dawn, two hours of GPU"}


@pytest.mark.parametrize("statuses", [(400, 200), (413, 200), (422, 200), (503, 422, 200), (422, 422)])
async def test_a_result_that_is_refused_for_what_it_is_is_told_as_a_failure_once(statuses: tuple[int, ...]) -> None:
    told = await brought(*statuses)
    failures = [said["failure"] for _, said in told if "failure" in said]
    assert [failure["kind"] for failure in failures] == ["invalid_output"]
    assert "HTTP 4" in failures[0]["message"]
    assert "said_so" in failures[0]["message"]
    assert told[-1][1].get("failure") is not None
