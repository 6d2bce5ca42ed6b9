"""Agents behind HTTP from end to end: transport, server, and the cluster's API that records what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from pointsman.agents.agent import Agent, AgentError
from pointsman.api import ApiServer, InsecureBind
from pointsman.kernel.policy.amounts import Amount
from pointsman.ports.agents import CallAddress
from pointsman.serving import AgentServer, Cluster
from pointsman.serving.asgi import CALLBACKS_MAX
from pointsman.transports.http import HttpTransport
from pointsman.transports.http_headers import request_headers
from tests.unit.api.memory_agents import MemoryAttempts
from tests.unit.serving.conftest import Desk
from tests.unit.transports.support import HERE, Runtime, answer, context, serving

CALL = CallAddress("r1", 1, "billing#1")


@pytest.fixture
async def server(desk: Desk, api: ApiServer) -> AsyncIterator[AgentServer]:
    cluster = Cluster(f"http://127.0.0.1:{api.port}", token="cluster's")
    server = AgentServer(desk.app, token="agents'", cluster=cluster)
    await server.start()
    yield server
    await server.stop()
    await cluster.close()


def remote(desk: Desk, server: AgentServer, name: str) -> Agent:
    """The agent as a coordinator knows it: by its card."""
    declared = desk.app.directory.agent(name)
    assert declared is not None
    card = msgspec.structs.replace(declared.card, url=f"http://127.0.0.1:{server.port}/agents/{name}")
    return Agent(card, declared.signature)


async def failure(transport: HttpTransport, agent: Agent, data: bytes = b"null", **about: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await transport.call(agent, context(**about), data)
    return caught.value


async def test_an_attempt_gets_there_whole(desk: Desk, server: AgentServer, transport: HttpTransport) -> None:
    sent = context(call="prüfen 1%", idempotency_key="r1/1/prüfen 1%", tenant="ümlaut", epoch=7, attempt=3, seconds=9)
    assert await transport.call(remote(desk, server, "echo"), sent, b"5") == b"5"
    (got,) = desk.contexts
    for field in ("run", "call", "attempt", "idempotency_key", "epoch", "tenant"):
        assert getattr(got, field) == getattr(sent, field)
    assert abs(got.deadline - sent.deadline) < 1


async def test_an_effect_is_not_repeated_by_a_retry_on_whichever_server(
    desk: Desk, server: AgentServer, transport: HttpTransport, attempts: MemoryAttempts, api: ApiServer
) -> None:
    agent = remote(desk, server, "charge")
    assert await transport.call(agent, context(attempt=1), b"null") == b'"charge 1"'
    another = AgentServer(desk.app, token="agents'", cluster=Cluster(f"http://127.0.0.1:{api.port}", token="cluster's"))
    await another.start()
    assert await transport.call(remote(desk, another, "charge"), context(attempt=2), b"null") == b'"charge 1"'
    assert desk.charges == ["r1/1/billing#1"]
    assert attempts.effects == {(CALL, "charge"): b'"charge 1"'}
    await another.stop()
    assert another.app._cluster is not None
    await another.app._cluster.close()


async def test_an_effect_of_an_ended_run_is_refused(
    desk: Desk, server: AgentServer, transport: HttpTransport, attempts: MemoryAttempts
) -> None:
    attempts.run_ended = True
    error = await failure(transport, remote(desk, server, "charge"))
    assert error.kind == "refused"


async def test_without_a_cluster_once_says_so_and_has_no_effect(desk: Desk, transport: HttpTransport) -> None:
    server = AgentServer(desk.app)
    await server.start()
    error = await failure(transport, remote(desk, server, "charge"))
    assert error.kind == "no_callback"
    assert "nowhere to record its effect" in str(error)
    assert desk.charges == []
    await server.stop()


async def test_the_cluster_may_be_named_by_the_caller_and_gets_no_token(desk: Desk) -> None:
    async with serving(answer(200, b'{"value": "recorded before"}')) as cluster:
        server = AgentServer(desk.app)
        await server.start()
        transport = HttpTransport(HERE, callback=f"http://127.0.0.1:{cluster.port}")
        assert await transport.call(remote(desk, server, "charge"), context(), b"null") == b'"recorded before"'
        assert cluster.seen[0].line == "GET /v1/runs/r1/effects?key=r1/1/billing%231&name=charge HTTP/1.1"
        assert "authorization" not in cluster.seen[0].headers
        await transport.close()
        await server.stop()


async def test_callers_can_not_name_clusters_without_end(desk: Desk) -> None:
    server = AgentServer(desk.app)
    await server.start()
    kinds = []
    for number in range(CALLBACKS_MAX + 1):
        transport = HttpTransport(HERE, callback=f"http://127.0.0.1:1/{number}")
        try:
            await transport.call(remote(desk, server, "echo"), context(), b"1")
        except AgentError as error:
            kinds.append((number, error.kind))
        await transport.close()
    assert kinds == [(CALLBACKS_MAX, "refused")]
    await server.stop()


async def test_with_a_cluster_of_its_own_a_server_asks_no_other(
    desk: Desk, server: AgentServer, attempts: MemoryAttempts
) -> None:
    async with serving() as other:
        transport = HttpTransport(HERE, token="agents'", callback=f"http://127.0.0.1:{other.port}")
        await transport.call(remote(desk, server, "charge"), context(), b"null")
        assert other.connections == 0
        assert len(attempts.effects) == 1
        await transport.close()


async def test_spending_comes_with_the_answer(desk: Desk, server: AgentServer, transport: HttpTransport) -> None:
    runtime = Runtime()
    await transport.call(remote(desk, server, "spender"), context(runtime=runtime), b"null")
    with pytest.raises(AgentError):
        await transport.call(remote(desk, server, "fails"), context(runtime=runtime), b'"crash"')
    assert runtime.spent == [Amount(10_000, 12), Amount(500_000, 0)]


async def test_events_come_with_the_answer(desk: Desk, server: AgentServer, transport: HttpTransport) -> None:
    runtime = Runtime()
    assert await transport.call(remote(desk, server, "teller"), context(runtime=runtime), b"5") == b"5"
    assert [(e.event, e.value) for e in runtime.emitted] == [("ticket.seen", {"n": 5}), ("ticket.done", None)]


async def test_heartbeats_and_spending_reach_the_cluster_meanwhile(
    desk: Desk, server: AgentServer, transport: HttpTransport, attempts: MemoryAttempts
) -> None:
    desk.told = attempts.heard_of_spending
    assert await transport.call(remote(desk, server, "works"), context(seconds=60), b"null") == b"null"
    assert attempts.beats == [(CALL, 2)]
    assert attempts.spent == [(CALL, 2, Amount(0, 7))]


@pytest.mark.parametrize(
    ("said", "kind", "retryable", "retry_after"),
    [
        ("refused", "refused", None, None),
        ("context_overflow", "context_overflow", None, None),
        ("rate_limited", "rate_limited", None, 3.0),
        ("card_declined", "card_declined", False, None),
        ("overloaded", "overloaded", None, 0.0),
        ("timeout", "exception", None, None),
        ("crash", "exception", None, None),
        ("impatient", "exception", None, None),
        ("unrecorded", "store_unavailable", True, None),
    ],
)
async def test_failures_arrive_as_what_they_are(
    desk: Desk, server: AgentServer, transport: HttpTransport, said: str, kind: str, retryable: Any, retry_after: Any
) -> None:
    error = await failure(transport, remote(desk, server, "fails"), f'"{said}"'.encode())
    assert (error.kind, error.is_retryable, error.retry_after) == (kind, retryable, retry_after)


async def test_what_does_not_fit_is_found_at_the_agent(
    desk: Desk, server: AgentServer, transport: HttpTransport
) -> None:
    kinds = {
        name: (await failure(transport, remote(desk, server, name), data)).kind
        for name, data in (("echo", b'"x"'), ("wrong", b"null"), ("large", b"null"), ("fails", b'"' + b"x" * 20_000))
    }
    assert kinds == {
        "echo": "invalid_input", "wrong": "invalid_output", "large": "output_too_large", "fails": "context_overflow",
    }  # fmt: skip


async def test_requests_that_are_no_attempts_are_refused(
    desk: Desk, server: AgentServer, transport: HttpTransport
) -> None:
    agent = remote(desk, server, "echo")
    unknown = Agent(msgspec.structs.replace(agent.described, url=f"{agent.described.url}s"), agent.signature)
    assert (await failure(transport, unknown)).kind == "refused"
    stranger = HttpTransport(HERE, token="guess")
    assert (await failure(stranger, agent, b"1")).kind == "refused"
    await stranger.close()
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": "Bearer agents'"}) as client:
        for headers in ({}, {"pointsman-run": "r1"}):
            response = await client.post(str(agent.described.url), content=b"1", headers=headers)
            assert (response.status_code, response.json()["code"]) == (400, "refused")
            assert "is missing" in response.json()["detail"]
    assert desk.contexts == []


def test_only_loopback_is_served_without_a_token(desk: Desk) -> None:
    with pytest.raises(InsecureBind):
        AgentServer(desk.app, host="0.0.0.0")


# -- attempts that nobody waits for ----------------------------------------------------------------------------------


async def test_an_agent_is_cancelled_at_the_deadline_also_when_its_caller_stays(
    desk: Desk, server: AgentServer
) -> None:
    headers = request_headers(context(), left_ms=200, callback=None, token="agents'")
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        url = f"http://127.0.0.1:{server.port}/agents/waits"
        response = await client.post(url, content=b"null", headers=headers)
    assert (response.status_code, response.json()["code"]) == (504, "exception")
    assert desk.cancelled.is_set()


async def test_an_agent_is_cancelled_when_its_caller_goes(
    desk: Desk, server: AgentServer, transport: HttpTransport
) -> None:
    attempt = asyncio.create_task(transport.call(remote(desk, server, "waits"), context(seconds=60), b"null"))
    await desk.entered.wait()
    attempt.cancel()
    await asyncio.wait([attempt])
    await asyncio.wait_for(desk.cancelled.wait(), 10)


async def test_an_agent_is_cancelled_when_the_cluster_waits_no_more(
    desk: Desk, server: AgentServer, transport: HttpTransport, attempts: MemoryAttempts
) -> None:
    attempts.over = True
    error = await failure(transport, remote(desk, server, "beats"), seconds=60)
    assert error.kind == "refused"
    assert "nobody waits" in str(error)
    assert desk.cancelled.is_set()


async def test_a_server_that_leaves_says_so_to_those_who_wait(
    desk: Desk, server: AgentServer, transport: HttpTransport
) -> None:
    attempt = asyncio.create_task(failure(transport, remote(desk, server, "waits"), seconds=60))
    await desk.entered.wait()
    await server.stop()
    assert (await attempt).kind == "overloaded"


# -- health ----------------------------------------------------------------------------------------------------------


async def test_health_is_the_agent_s_own_check_and_public(
    desk: Desk, server: AgentServer, transport: HttpTransport
) -> None:
    base = f"http://127.0.0.1:{server.port}"
    await transport.probe(f"{base}/health", 5)
    await transport.probe(f"{base}/agents/echo/health", 5)
    desk.unwell = True
    await transport.probe(f"{base}/health", 5)
    for path, kind in (("agents/echo/health", "overloaded"), ("agents/nobody/health", "refused")):
        with pytest.raises(AgentError) as caught:
            await transport.probe(f"{base}/{path}", 5)
        assert caught.value.kind == kind
