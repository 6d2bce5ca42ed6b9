"""`pointsman agents`, `breakers` and `budgets`, against a real API."""

from __future__ import annotations

from typing import Any

import pytest

from pointsman.cli.client import Client
from tests.unit.cli.conftest import Served


def rows(served: Served, *arguments: str) -> dict[str, list[str]]:
    result = served.cli(*arguments)
    assert result.exit_code == 0, result.stderr
    return {line.split()[0]: line.split() for line in result.stdout.splitlines()}


def test_agents_are_listed_and_shown(served: Served) -> None:
    listed = rows(served, "agents", "ls")
    assert listed["agent"] == ["agent", "gets", "calls", "health", "breaker", "can", "do", "where"]
    assert listed["pricer"] == ["pricer", "yes", "unknown", "closed", "price,", "haggle", "in", "process"]
    shown = served.cli("agents", "show", "pricer").stdout.splitlines()
    assert shown[:2] == ["pricer  gets calls yes  health unknown  breaker closed", "in process"]
    assert 'description: "Names a price."' in shown
    assert served.json("agents", "show", "pricer")["name"] == "pricer"


def test_an_agent_is_switched_off_and_on(served: Served) -> None:
    try:
        assert served.cli("agents", "disable", "greeter", "--reason", "holiday").stdout == "greeter is disabled\n"
        assert rows(served, "agents", "ls")["greeter"][1:3] == ["no:", "disabled"]
    finally:
        assert served.cli("agents", "enable", "greeter").stdout == "greeter is enabled\n"
    assert rows(served, "agents", "ls")["greeter"][1] == "yes"
    assert served.json("agents", "enable", "greeter")["enabled"] is True


def test_a_breaker_is_pinned_and_unpinned(served: Served) -> None:
    try:
        assert served.cli("breakers", "pin", "greeter", "open").stdout == "the breaker of greeter is pinned open\n"
        assert "open" in rows(served, "breakers", "ls")["greeter"]
    finally:
        unpinned = served.cli("breakers", "unpin", "greeter")
    assert (unpinned.exit_code, "and decides by itself" in unpinned.stdout) == (0, True)
    assert served.json("breakers", "pin", "greeter", "closed")["pinned"] == "closed"
    assert served.json("breakers", "unpin", "greeter")["pinned"] is None
    assert rows(served, "breakers", "ls")["agent"] == [
        "agent",
        "breaker",
        "pinned",
        "since",
        "calls",
        "failed",
        "slow",
        "why",
    ]


def test_a_breaker_that_has_opened_says_why(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    breaker: dict[str, Any] = {
        "agent": "billing", "state": "open", "pinned": None, "since": "2026-01-01T00:00:00.000Z",
        "reason": "12 of 20 calls failed", "calls": 20, "failures": 12, "slow": 3,
    }  # fmt: skip
    monkeypatch.setattr(Client, "get", lambda *_, **__: {"breakers": [breaker]})
    line = served.cli("breakers", "ls").stdout.splitlines()[1].split()
    assert line[:2] == ["billing", "open"]
    assert line[-8:] == ["20", "12", "3", "12", "of", "20", "calls", "failed"]


def test_an_agent_that_registered_shows_where_it_is_and_until_when(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = {
        "name": "far", "enabled": True, "registered": True, "health": "unhealthy", "breaker": "half-open",
        "problem": "unhealthy", "expires_at": "2026-01-01T00:00:30.000Z", "card": {"url": "http://a.example/"},
    }  # fmt: skip
    monkeypatch.setattr(Client, "get", lambda *_, **__: {"agents": [agent]})
    line = " ".join(served.cli("agents", "ls").stdout.splitlines()[1].split())
    assert line == "far no: unhealthy unhealthy half-open http://a.example/, until 2026-01-01T00:00:30.000Z"
    monkeypatch.setattr(Client, "post", lambda *_, **__: (200, agent))
    assert served.cli("agents", "enable", "far").stdout == "far is enabled, but gets no calls: unhealthy\n"


def test_a_budget_is_set_listed_and_shown(served: Served) -> None:
    set_ = served.cli("budgets", "set", "agent", "greeter", "--usd", "12.5", "--calls", "1000", "--by", "ann")
    assert set_.exit_code == 0, set_.stderr
    assert [line.split() for line in set_.stdout.splitlines()] == [
        ["budget", "of", "limit", "spent", "reserved", "free", "until", "set", "by"],
        ["agent", "greeter", "usd", "$12.50", "$0.00", "$0.00", "$12.50", "ann"],
        ["agent", "greeter", "calls", "1,000", "0", "0", "1,000", "ann"],
    ]
    assert served.cli("budgets", "show", "agent", "greeter").stdout == set_.stdout
    assert served.json("budgets", "show", "agent", "greeter")["by"] == "ann"
    served.json("budgets", "set", "tenant", "acme", "--tokens", "5", "--per", "3600")
    page = served.json("budgets", "ls", "--limit", "1")
    assert [budget["name"] for budget in page["budgets"]] == ["greeter"]
    rest = served.cli("budgets", "ls", "--cursor", page["cursor"])
    assert "tenant acme" in rest.stdout
    assert "more: --cursor " in served.cli("budgets", "ls", "--limit", "1").stderr
    lifted = served.cli("budgets", "set", "agent", "greeter", "--unlimited", "--by", "ann")
    assert lifted.stdout.splitlines()[1].split() == ["agent", "greeter", "no", "limit", "ann"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("agents", "show", "nobody"), 1, "agent_not_found: "),
        (("agents", "disable", "nobody"), 1, "agent_not_found: "),
        (("agents", "show", ""), 2, "usage: "),
        (("agents", "ls", "--url", "http://127.0.0.1:9"), 3, "unreachable: "),
        (("breakers", "pin", "greeter", "ajar"), 2, "usage: ajar: "),
        (("breakers", "unpin", "nobody"), 1, "agent_not_found: "),
        (("budgets", "show", "agent", "unheard"), 1, "unknown_budget: "),
        (("budgets", "show", "run", "r"), 2, "usage: run: "),
        (("budgets", "set", "agent", "greeter"), 2, "usage: give --usd"),
        (("budgets", "set", "agent", "greeter", "--usd", "1", "--unlimited"), 2, "usage: give --usd"),
        (("budgets", "set", "agent", "greeter", "--usd", "1", "--by", ""), 1, "invalid_body: "),
    ],
)
def test_errors_are_named(served: Served, arguments: tuple[str, ...], code: int, says: str) -> None:
    result = served.cli(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(f"pointsman: {says}")
