"""The OpenAPI document: valid, served, of every route and of nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from typer.testing import CliRunner

from pointsman.api import ApiSettings, openapi
from pointsman.api.app import Api
from pointsman.api.parameters import LIMIT, Text
from pointsman.api.routing import Answer, ApiRoute, Declaration
from pointsman.cli.main import app
from pointsman.ports.agents import AgentNotFound
from tests.support.documented import Documented
from tests.unit.api.memory_runs import Bench, FixedStatus, MemoryRuns


def document(api: Api | None = None) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode((api or Bench().api).document())
    return decoded


def operations(said: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method.upper(), path): one for path, item in said["paths"].items() for method, one in item.items()}


def test_it_is_a_valid_document_of_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()  # type: ignore[arg-type]  a dict is what it reads


def test_every_route_is_in_it_and_nothing_else() -> None:
    api = Bench().api
    assert set(operations(document(api))) == {(one.declared.method, one.path) for one in api.routes}
    bare = Api(MemoryRuns(), FixedStatus(), ApiSettings())
    assert set(operations(document(bare))) == {(one.declared.method, one.path) for one in bare.routes}
    assert "/v1/agents" not in document(bare)["paths"]


def test_operations_have_a_name_of_their_own_a_summary_and_an_answer() -> None:
    found = operations(document()).values()
    names = [one["operationId"] for one in found]
    assert sorted(set(names)) == sorted(names)
    assert all(
        one["summary"] and one["tags"] and any(int(status) < 300 for status in one["responses"]) for one in found
    )


def test_bounds_are_those_of_the_coordinator() -> None:
    found = operations(document(Bench(page_limit_max=7, page_limit_default=3).api))
    (limit,) = [one for one in found["GET", "/v1/runs"]["parameters"] if one["name"] == "limit"]
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 7, "default": 3}


def test_a_token_is_said_to_be_needed_where_it_is() -> None:
    said = document(Bench(token="x" * 20).api)
    assert said["security"] == [{"bearer": []}]
    assert {path for (_, path), one in operations(said).items() if one.get("security") == []} == {"/health", "/ready"}
    assert document()["security"] == [{"bearer": []}, {}]


def test_refusals_are_listed_by_their_codes() -> None:
    responses = operations(document())["POST", "/v1/runs"]["responses"]
    assert responses["409"]["x-problem-codes"] == ["run_conflict"]
    assert "unexpected_body" not in responses["400"]["x-problem-codes"]
    assert "unauthorized" in responses["401"]["x-problem-codes"]
    assert "401" not in operations(document())["GET", "/health"]["responses"]
    listed = document()["components"]["schemas"]["Problem"]["properties"]["code"]["description"]
    assert "- `run_conflict`: A run with this id" in listed


def test_the_command_prints_what_a_coordinator_with_all_its_parts_serves() -> None:
    result = CliRunner().invoke(app, ["openapi"])
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout) == document()


async def test_it_is_served() -> None:
    bench = Bench()
    response = await bench.client.get("/openapi.json")
    assert (response.status_code, response.json()) == (200, document(bench.api))
    assert (await Bench(token="x" * 20).client.get("/openapi.json")).status_code == 401


async def test_an_answer_that_is_not_in_the_document_fails_the_test_that_gets_it() -> None:
    bench = Bench()
    documented = Documented(bench.api)
    (route,) = [one for one in bench.api.routes if one.declared.name == "get_agent"]
    start = {"status": 200, "headers": [(b"content-type", b"application/json")]}
    with pytest.raises(AssertionError, match="409 is not in the document"):
        documented.check(route, "GET", {**start, "status": 409}, b"{}")
    with pytest.raises(AssertionError, match="text/html is not in"):
        documented.check(route, "GET", {**start, "headers": [(b"content-type", b"text/html")]}, b"{}")
    with pytest.raises(Exception, match="required property"):
        documented.check(route, "GET", start, b'{"name":"a"}')
    problem = msgspec.json.encode({"type": "t", "title": "t", "status": 404, "code": "unknown_run", "detail": ""})
    headers = [(b"content-type", b"application/problem+json")]
    with pytest.raises(AssertionError, match="unknown_run is none of"):
        documented.check(route, "GET", {"status": 404, "headers": headers}, problem)


async def test_what_is_not_declared_can_not_be_read() -> None:
    async def handler(request: Any) -> Any:
        return request.value(Text("other", "Not declared."))

    bench = Bench()
    declared = Declaration("get_x", "GET", "/x", "X", parameters=(LIMIT,), answers=(Answer(200, str, "X"),))
    bench.api.routes.append(ApiRoute(declared, handler))
    response = await bench.client.get("/x")
    assert (response.status_code, response.json()["code"]) == (500, "internal")


def test_a_declaration_that_forgets_a_part_of_its_path_is_refused() -> None:
    async def handler(request: Any) -> Any: ...

    with pytest.raises(ValueError, match=r"GET /v1/things/\{name\}: its parameters in the path are \[\]"):
        ApiRoute(Declaration("get_thing", "GET", "/v1/things/{name}", "A thing"), handler)


def test_problems_of_a_route_are_what_all_have_and_what_it_declares() -> None:
    plain = Declaration("get_thing", "GET", "/v1/things", "Things", errors=(AgentNotFound,), public=True)
    assert set(openapi.problems_of(plain)) == {400, 404, 408, 431, 500, 503}
    assert set(openapi.problems_of(plain)[404]) == {"agent_not_found"}
