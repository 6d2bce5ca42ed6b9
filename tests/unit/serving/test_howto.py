"""The page on agents behind HTTP: its programs do what it says, and its table is the one in the code."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import msgspec
import pytest

from pointsman import Context
from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.card import Card
from pointsman.agents.schema import SchemaSignature
from pointsman.api import ApiServer, ApiSettings
from pointsman.api.server import Server
from pointsman.api.waiting import Waiting
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.serving import AgentServer, Cluster
from pointsman.transports.http import HttpTransport
from pointsman.transports.http_answers import KIND_OF_STATUS, SAYABLE
from tests.unit.api.memory_agents import MemoryAttempts
from tests.unit.transports.support import HERE, Runtime, context

PAGE = (Path(__file__).parents[3] / "docs" / "howto" / "http-agents.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    module = ModuleType("documented_program")
    monkeypatch.setitem(sys.modules, "documented_program", module)
    exec(compile(PROGRAMS[request.param], "http-agents.md", "exec"), module.__dict__)  # noqa: S102  that is the test
    return module


@pytest.mark.parametrize("program", [0], indirect=True)
async def test_the_served_agent(program: Any, api: ApiServer, attempts: MemoryAttempts) -> None:
    cluster = Cluster(f"http://127.0.0.1:{api.port}", token="cluster's")
    server = AgentServer(program.app, cluster=cluster)
    transport = HttpTransport(HERE)
    await server.start()
    declared = program.app.directory.agent("billing")
    card = msgspec.structs.replace(declared.card, url=f"http://127.0.0.1:{server.port}/agents/billing")
    runtime = Runtime()
    for _ in range(2):
        result = await transport.call(Agent(card, declared.signature), context(runtime=runtime), b'"ticket"')
        assert result == b'"Done: refund r1/1/billing#1"'
    assert runtime.spent == [Amount(2_000, 150)] * 2
    assert len(attempts.effects) == 1
    await transport.close()
    await server.stop()
    await cluster.close()


@pytest.mark.parametrize("program", [1], indirect=True)
async def test_the_service_without_pointsman(program: Any) -> None:
    server = Server(program.service, ApiSettings(), Waiting())
    transport = HttpTransport(HERE)
    await server.start()
    (body,) = re.findall(r"-d '(.*?)'", PAGE, re.DOTALL)
    given = msgspec.json.decode(body)["card"] | {"url": f"http://127.0.0.1:{server.port}/translate"}
    card = msgspec.convert(given, Card)
    card.check()
    agent = Agent(card, SchemaSignature(card.name, card.input_schema, card.output_schema))
    runtime = Runtime()
    assert await transport.call(agent, context(runtime=runtime), b'"hello"') == b'{"text":"HELLO"}'
    assert runtime.spent == [Amount(1_000, 20)]
    with pytest.raises(AgentError, match="at most 1,000 characters") as caught:
        await transport.call(agent, context(), b'"%b"' % (b"x" * 1_001))
    assert (caught.value.kind, caught.value.is_retryable) == ("text_too_long", False)
    await transport.close()
    await server.stop()


@pytest.mark.parametrize("program", [2], indirect=True)
async def test_the_transaction(program: Any, fresh_database: str) -> None:
    program.DSN = fresh_database
    await program.prepare()
    refund = program.app.directory.agent("refund")
    for number in (1, 2):
        at = Context("r1", "refund#1", number, "r1/1/refund#1", 1, time.monotonic() + 30)
        assert await refund("ticket", at) == 1
    connection = await asyncpg.connect(fresh_database)
    assert await connection.fetchval("SELECT count(*) FROM refunds") == 1
    await connection.close()


def test_the_table_of_outcomes_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| (.+?) \| `(\w+)` \| (yes|no)[^|]*\|$", PAGE, re.MULTILINE)
    assert {int(what): kind for what, kind, _ in rows if what.isdigit()} == KIND_OF_STATUS
    for what, kind, retried in rows:
        assert FAILURE_KINDS[kind].retryable == (retried == "yes") or "address that agents may not have" in what
    sentence = PAGE.split("an agent may name")[1].split("; another one")[0]
    assert set(re.findall(r"`(\w+)`", sentence)) == SAYABLE
    assert len(rows) >= 16
