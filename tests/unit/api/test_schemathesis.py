"""Schemathesis asks a real coordinator what the OpenAPI document says may be asked, and what it says may not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks

from pointsman import Client
from pointsman.api import ApiSettings
from pointsman.api.app import declared
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.node.service import Node, NodeSettings
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from tests.unit.client.conftest import app, in_thread

TOKEN = "a-token-of-this-test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
EXAMPLES = 5
"""For each route and each mode. A hundred are a matter of two minutes, and were asked when this was written."""
CHECKS = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance,
    checks.response_schema_conformance, checks.response_headers_conformance, checks.negative_data_rejection,
    checks.ignored_auth, checks.unsupported_method, checks.allow_header_conformance, checks.missing_required_header,
]  # fmt: skip
TAKES_WHATEVER_FITS = {
    "get_run", "get_result", "signal_run", "cancel_run", "release_run", "list_events", "stream_events",
    "get_coordinator", "get_health", "get_ready", "get_metrics", "get_openapi", "list_agents", "get_agent",
    "enable_agent", "disable_agent", "list_breakers", "pin_breaker", "unpin_breaker", "get_budget",
}  # fmt: skip
"""Routes where what fits the document is never malformed. Others have rules that no schema says: a cursor is one that a
page gave, a key is of the run in the path, an answer fits the agent's schema; or a whole number, which JSON Schema
takes as 8.0 too."""


async def serve(up: Callable[[str], None], down: asyncio.Event) -> None:
    api = ApiSettings(token=TOKEN, wait_max_s=0.02, wait_default_s=0.01)
    node = Node(app, MemoryStore(MemoryDatabase()), NodeSettings(CoordinatorSettings(), api))
    await node.start()
    up(f"http://{node.address}")
    await down.wait()
    await node.stop()


class Target:
    """A coordinator with something in it. `known`: what a part of a path may be, for something to be there."""

    def __init__(self, url: str) -> None:
        self.url = url
        with Client(url, token=TOKEN) as client:
            client.start("quote", {"id": 1, "text": "a"}, id="completed", wait=0.02)
            client.start("fails", "thing", id="failed", wait=0.02)
            client.start("asks", "thing", id="asking")
            client.wait("completed", timeout=10)
            client.wait("failed", timeout=10)
            asked = client.follow("asking")
            assert any(event.type == "HumanTaskOpened" for event in asked)
            asked.close()  # type: ignore[attr-defined]  a generator
            task = next(client.tasks()).id
        self.known = {"run": ["completed", "failed"], "task": [task], "name": ["priced", "go"]}
        self.schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=AUTHORIZED)
        refusals = self.schema.config.checks.negative_data_rejection
        refusals.expected_statuses = [*refusals.expected_statuses, "421"]  # sent to another coordinator than was meant


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with in_thread(serve) as url:
        yield Target(url)


@pytest.mark.parametrize("operation", sorted(one.name for one in declared()))
def test_a_route_does_what_the_document_says(target: Target, operation: str) -> None:
    asked = 0
    found = target.schema.find_operation_by_id(operation)
    for mode in GenerationMode:
        try:
            asked += ask(
                target, found, mode, taken=mode is GenerationMode.POSITIVE and operation in TAKES_WHATEVER_FITS
            )
        except Unsatisfiable:  # nothing of it could be wrong
            assert mode is GenerationMode.NEGATIVE
    assert asked


def ask(target: Target, operation: Any, mode: GenerationMode, *, taken: bool) -> int:
    """How often it was asked."""
    asked = 0

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode), st.booleans(), st.data())
    def once(case: Any, there: bool, data: st.DataObject) -> None:
        nonlocal asked
        asked += 1
        if there and mode is GenerationMode.POSITIVE:
            for name in set(case.path_parameters or ()) & set(target.known):
                case.path_parameters[name] = data.draw(st.sampled_from(target.known[name]))
        wanted = [*CHECKS, checks.positive_data_acceptance] if taken else CHECKS
        case.call_and_validate(headers=AUTHORIZED, checks=wanted)

    once()
    return asked


def test_an_answer_that_is_not_in_the_document_is_noticed(target: Target) -> None:
    document = copy.deepcopy(dict(target.schema.raw_schema))
    del document["paths"]["/v1/runs/{run}"]["get"]["responses"]["404"]
    wrong = schemathesis.openapi.from_dict(document)
    wrong.config.update(base_url=target.url)
    found = wrong.find_operation_by_id("get_run")
    with pytest.raises(BaseException, match="Undocumented status code"):
        ask(target, found, GenerationMode.POSITIVE, taken=False)
