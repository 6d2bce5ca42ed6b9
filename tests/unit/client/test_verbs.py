"""Every verb of both clients, against a real API."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

import pointsman
from pointsman import AsyncClient, Client
from pointsman.api.app import declared
from pointsman.api.views import ResultBody
from pointsman.client import DeadlinePassed, InvalidArgument, RunHeldBack, RunNotCompleted
from pointsman.client.errors import NAMED, Refused, from_answer
from pointsman.client.exchange import output, settings
from pointsman.client.verbs import ListVerb, Verb, Verbs
from pointsman.kernel.errors import (
    AnswerMisplaced,
    DuplicateMail,
    InvalidInput,
    InvalidValue,
    NoSuchSequence,
    NotQuarantined,
    NotRedrivable,
    PointsmanError,
    RunConflict,
    RunEnded,
    TaskAnswered,
    UnknownBudget,
    UnknownRun,
    UnknownTask,
    UnknownWorkflow,
    ValueTooLarge,
)
from pointsman.ports.agents import AgentNotFound
from tests.unit.client.conftest import Ticket


@dataclass
class Priced:
    id: int
    text: str


class PricedStruct(msgspec.Struct):
    id: int
    text: str


def test_a_run_is_started_and_its_result_is_typed(client: Any) -> None:
    run = client.start("quote", Ticket(id=7, text="four"))
    assert client.result(run.id, Ticket, timeout=10) == Ticket(id=7, text="4")
    assert client.result(run.id, Priced) == Priced(7, "4")
    assert client.result(run.id, PricedStruct) == PricedStruct(7, "4")
    assert client.result(run.id, dict[str, int | str]) == client.result(run.id) == {"id": 7, "text": "4"}
    with pytest.raises(pydantic.ValidationError):
        client.result(run.id, int)
    assert client.get(run.id).status == "completed"


def test_a_start_is_one_run_by_its_id_or_its_key(client: Any, kind: Any) -> None:
    name = kind.__name__
    first = client.start("quote", {"id": 1, "text": "a"}, id=f"one-{name}", wait=10)
    assert first.status == "completed"
    assert client.start("quote", {"id": 1, "text": "a"}, id=f"one-{name}").id == first.id
    assert client.start("waits", key=f"k-{name}").id == client.start("waits", key=f"k-{name}").id
    assert client.start("waits").id != client.start("waits").id
    with pytest.raises(RunConflict):
        client.start("quote", {"id": 2, "text": "a"}, id=f"one-{name}")


def test_what_the_api_refuses_has_its_name(client: Any) -> None:
    run = client.start("quote", {"id": 1, "text": "abc"}, wait=10).id
    for wrong, error in [
        (lambda: client.start("nothing"), UnknownWorkflow),
        (lambda: client.start("quote", "no ticket"), InvalidInput),
        (lambda: client.start("waits", attributes={f"k{n}": n for n in range(33)}), InvalidValue),
        (lambda: client.start("waits", attributes={"text": "x" * 16_000}), ValueTooLarge),
        (lambda: client.get("nobody"), UnknownRun),
        (lambda: client.wait("nobody"), UnknownRun),
        (lambda: list(client.events("nobody")), UnknownRun),
        (lambda: list(client.follow("nobody")), UnknownRun),
        (lambda: list(client.follow(run, after=1_000)), NoSuchSequence),
        (lambda: list(client.events(run, after=1_000)), NoSuchSequence),
        (lambda: client.task("nobody"), UnknownTask),
        (lambda: client.agent("nobody"), AgentNotFound),
        (lambda: client.budget("tenant", "nobody"), UnknownBudget),
        (lambda: client.get(""), InvalidArgument),
    ]:
        with pytest.raises(error) as caught:
            wrong()
        assert str(caught.value)


def test_a_run_without_a_result_says_why(client: Any) -> None:
    failed = client.start("fails", "thing")
    with pytest.raises(RunNotCompleted, match=r"failed: refused: unsure: refused: what is a thing\?") as caught:
        client.result(failed.id, timeout=10)
    assert (caught.value.code, caught.value.failure.kind) == ("run_failed", "refused")
    waiting = client.start("waits")
    with pytest.raises(DeadlinePassed, match="it goes on"):
        client.result(waiting.id, timeout=0.05)
    assert client.cancel(waiting.id, reason="enough").repeated is False
    with pytest.raises(RunNotCompleted) as cancelled:
        client.result(waiting.id, timeout=10)
    assert cancelled.value.code == "run_cancelled"
    with pytest.raises(RunEnded):
        client.signal(waiting.id, "go")


@pytest.mark.parametrize(("status", "says"), [("stopped", "deploy code"), ("quarantined", "release it")])
def test_a_run_that_is_held_back_is_no_result(status: str, says: str) -> None:
    with pytest.raises(RunHeldBack, match=says) as caught:
        output(ResultBody("a", status), None)
    assert caught.value.code == f"run_{status}"


def test_runs_are_listed_by_what_they_are_whatever_the_page(client: Any, kind: Any) -> None:
    mark = f"list-{kind.__name__}"
    ids = [client.start("waits", attributes={"mark": mark, "n": n, "even": n % 2 == 0}).id for n in range(5)]
    found = [run.id for run in client.list(attributes={"mark": mark}, page=2)]
    assert found == ids[::-1]
    assert [run.id for run in client.list(attributes={"mark": mark, "n": 3})] == [ids[3]]
    assert {run.id for run in client.list(attributes={"mark": mark, "even": True}, workflow="waits")} == set(ids[::2])
    assert list(client.list(attributes={"mark": mark, "n": "3"})) == []
    assert list(client.list(status="failed", attributes={"mark": mark})) == []
    assert list(client.list(status=["running", "parked"], tenant="other", attributes={"mark": mark})) == []


def test_a_signal_counts_once_under_its_key(client: Any) -> None:
    run = client.start("waits").id
    assert client.signal(run, "other", 1, key="k").repeated is False
    assert client.signal(run, "other", 1, key="k").repeated is True
    with pytest.raises(DuplicateMail):
        client.signal(run, "other", 2, key="k")
    client.signal(run, "go", "now")
    assert client.result(run, str, timeout=10) == "now"


def test_events_are_read_and_followed_to_the_end(client: Any) -> None:
    run = client.start("quote", {"id": 1, "text": "abc"}, wait=10).id
    read = list(client.events(run, page=1))
    assert [event.sequence for event in read] == list(range(1, len(read) + 1))
    assert (read[0].type, read[-1].type) == ("RunStarted", "RunCompleted")
    assert [event.sequence for event in client.events(run, after=2)] == list(range(3, len(read) + 1))
    assert [(event.sequence, event.type) for event in client.follow(run)] == [(one.sequence, one.type) for one in read]
    waiting = client.start("waits").id
    assert list(client.events(waiting, after=1_000)) == []  # it may come to that
    following = client.follow(waiting)
    began = next(following)
    client.signal(waiting, "go", "x")
    assert [began.type, *(event.type for event in following)][-1] == "RunCompleted"


def test_release_and_redrive(client: Any) -> None:
    failed = client.start("fails", "it", wait=10)
    with pytest.raises(NotQuarantined):
        client.release(failed.id)
    plan = client.redrive(failed.id, dry_run=True)
    assert plan.calls == ("unsure#1",)
    assert client.redrive(failed.id, sequence=failed.sequence, by="ann").number == 1
    client.wait(failed.id, timeout=10)
    waiting = client.start("waits")
    with pytest.raises(NotRedrivable):
        client.redrive(waiting.id)


def until_opened(client: Any, run: str) -> None:
    following = client.follow(run)
    assert any(event.type == "HumanTaskOpened" for event in following)
    following.close()


def test_people_answer(client: Any) -> None:
    run = client.start("asks", "thing").id
    until_opened(client, run)
    (task,) = list(client.tasks(run=run))
    shown = client.task(task.id)
    assert shown.agent == "unsure"
    assert not client.assign(task.id, "leads", by="ann").repeated
    with pytest.raises(AnswerMisplaced):
        client.answer(task.id, 12, by="ann", digest="of another")
    assert client.answer(task.id, 12, by="ann", digest=shown.digest).run == run
    with pytest.raises(TaskAnswered):
        client.answer(task.id, 13, by="bob", digest=shown.digest)
    assert client.result(run, int, timeout=10) == 12
    other = client.start("asks", "other").id
    until_opened(client, other)
    (task,) = list(client.tasks(status=["open"], run=other))
    assert list(client.tasks(assignee="leads", run=other)) == []
    client.refuse(task.id, by="ann", reason="no idea", digest=client.task(task.id).digest)
    with pytest.raises(RunNotCompleted, match="not_answered"):
        client.result(other, timeout=10)


def test_agents_breakers_and_budgets(client: Any) -> None:
    assert [agent.name for agent in client.agents().agents] == ["priced", "unsure"]
    assert client.disable_agent("priced", reason="costs too much").enabled is False
    assert client.enable_agent("priced").enabled is True
    assert client.pin_breaker("unsure", "open").pinned == "open"
    assert client.unpin_breaker("unsure").pinned is None
    assert {breaker.agent for breaker in client.breakers().breakers} == {"priced", "unsure"}
    assert client.set_budget("tenant", "acme", by="ann", usd=1.5, per=60).limit.usd == 1.5
    assert client.budget("tenant", "acme").by == "ann"
    assert [budget.name for budget in client.budgets(page=1)] == ["acme"]


def test_a_tenant_sees_what_is_its_own(kind: Any, url: str) -> None:
    with kind(url, tenant=f"t-{kind.__name__}") as one, kind(url, tenant="stranger") as other:
        run = one.start("waits")
        assert run.tenant == f"t-{kind.__name__}"
        assert [found.id for found in one.list()] == [run.id]
        with pytest.raises(UnknownRun):
            other.get(run.id)


def test_a_route_without_a_verb_is_asked_by_its_path(client: Any) -> None:
    status, said = client.request("GET", "/v1/coordinator")
    assert (status, said["workflows"][0].partition(" ")[0]) == (200, "quote")
    assert client.request("GET", "/v1/runs", params={"status": ["failed", "cancelled"], "limit": 1, "cursor": None})


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidArgument):
            kind(url)


def test_certificates_are_loaded_for_an_address_that_has_one() -> None:
    """And then it is looked at; where there is none, they cost every verb of the command line 30 ms."""
    assert [settings(f"{scheme}://host", None, None)["verify"] for scheme in ("http", "https")] == [False, True]


def test_what_the_verbs_ask_for_is_in_the_document() -> None:
    """Each function with any arguments that it takes: method, path and the type of the answer are a route's."""
    routes = {(one.method, one.path): one for one in declared()}
    shapes = {(method, re.sub(r"\{\w+\}", "X", path)): one for (method, path), one in routes.items()}
    assert len(shapes) == len(routes)
    for name, verb in vars(Verbs).items():
        if isinstance(verb, Verb | ListVerb):
            function = getattr(Verbs, name)
            needed = [one for one in inspect.signature(function).parameters.values() if one.default is one.empty]
            by_name = {one.name: "X" for one in needed if one.kind is one.KEYWORD_ONLY}
            asked = function(*["X"] * (len(needed) - len(by_name)), **by_name)
            ask = asked.ask(None) if isinstance(verb, ListVerb) else asked
            found = shapes[ask.method, ask.path]
            assert ask.type in [answer.type for answer in found.answers], name
            assert {key for key, _ in ask.params} <= {one.name for one in found.parameters}, name
            if ask.body is not None:
                assert found.body is not None, name


def test_both_clients_have_every_verb_with_its_words() -> None:
    verbs = [name for name, value in vars(Verbs).items() if isinstance(value, Verb | ListVerb)]
    assert len(verbs) == 27
    for kind in (Client, AsyncClient):
        for name in [*verbs, "wait", "result", "follow", "request"]:
            assert inspect.getdoc(getattr(kind, name)), name
    assert "workflow" in inspect.signature(Client.start).parameters
    own = {name for name in vars(Client) if not name.startswith("_")}
    assert own == {name for name in vars(AsyncClient) if not name.startswith("_")}
    assert pointsman.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        pointsman.Clint  # noqa: B018


def test_every_code_of_the_document_has_a_class_or_is_refused_by_its_code() -> None:
    body = msgspec.json.encode({"code": "unknown_run", "detail": "no run a", "status": 404})
    assert isinstance(from_answer("u", 404, body), UnknownRun)
    strange = from_answer("u", 418, msgspec.json.encode({"code": "teapot", "title": "I am one"}))
    assert isinstance(strange, Refused)
    assert (strange.code, strange.status, str(strange), strange.retryable) == ("teapot", 418, "I am one", False)
    other = from_answer("u", 200, b"<html>")
    assert other.code == "not_pointsman"
    assert {"unknown_run", "unauthorized", "agent_not_found", "invalid_schema", "run_conflict"} <= set(NAMED)
    assert all(issubclass(kind, PointsmanError) for kind in NAMED.values())
