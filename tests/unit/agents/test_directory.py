"""The directory: the app's own agents, those that registered, and what their records change."""

from __future__ import annotations

import pytest

from pointsman import App
from pointsman.agents import record as rec
from pointsman.agents import traffic
from pointsman.agents.card import Card
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.record import AgentRecord
from pointsman.agents.schema import InvalidSchema
from pointsman.kernel.program import Selection
from pointsman.ports.agents import AgentDeclared

NUMBER = {"type": "integer"}


def app() -> App:
    app = App("desk", generalist="anybody")

    @app.agent
    async def anybody(text: str) -> str:
        return text

    @app.agent(capabilities=["billing", "refunds"], fallback=["clerk", "anybody"])
    async def broad(text: str) -> str:
        return text

    @app.agent(capabilities=["billing"], fallback=[])
    async def narrow(n: int) -> int:
        return n

    return app


def registered(name: str = "clerk", until: int = 1_000, **fields: object) -> AgentRecord:
    card = Card(name=name, url=f"https://{name}.example.org/", **fields)  # type: ignore[arg-type]
    return AgentRecord(card=card, until=until)


@pytest.fixture
def directory() -> AgentDirectory:
    return app().directory


def problem(directory: AgentDirectory, name: str, now: int = 0) -> str | None:
    found = directory.problem(name, now)
    return found.kind if found is not None else None


def test_without_records_the_apps_agents_have_no_problem(directory: AgentDirectory) -> None:
    assert [problem(directory, name, 10**15) for name in ("anybody", "broad", "nobody")] == [
        None,
        None,
        "unknown_agent",
    ]
    assert directory.select(["billing"]) == Selection("narrow", "can do billing")
    assert directory.select(["refunds", "billing"]) == Selection("broad", "can do refunds, billing")
    assert directory.select(["law"]) == Selection("anybody", "nobody can do law: the generalist")
    assert directory.select([]) is not None


def test_an_agent_that_registers_is_chosen_and_one_that_goes_is_not_but_still_replays(
    directory: AgentDirectory,
) -> None:
    assert directory.agent("clerk") is None
    directory.apply({"clerk": registered(capabilities=("law",), input_schema=NUMBER)})
    directory.now = lambda: 999
    assert directory.select(["law"]) == Selection("clerk", "can do law")
    assert (directory.fits("clerk", b"1"), directory.fits("clerk", b'"x"'), directory.fits("nobody", b"1")) == (
        True, False, False,
    )  # fmt: skip
    assert (directory.fits("narrow", b"1"), directory.fits("narrow", b'"x"')) == (True, False)
    directory.now = lambda: 1_000
    chosen = directory.select(["law"])
    assert chosen is not None
    assert chosen.agent == "anybody"
    assert chosen.reason == (
        "nobody who can do law can take it now: the generalist; passed over: clerk did not renew its registration"
    )
    assert problem(directory, "clerk", 1_000) == "departed"
    assert directory.agent("clerk") is not None


def test_what_was_passed_over_is_told(directory: AgentDirectory) -> None:
    directory.apply({"narrow": AgentRecord(disabled=rec.Switch("ann", "wrong answers"))})
    assert directory.select(["billing"]) == Selection(
        "broad", "can do billing; passed over: narrow is switched off: wrong answers"
    )
    directory.apply({"broad": AgentRecord(health="unhealthy", health_reason="500")})
    chosen = directory.select(["billing"])
    assert chosen is not None
    assert chosen.agent == "anybody"
    assert "narrow is switched off: wrong answers; broad fails its health check: 500" in chosen.reason
    breaker = AgentRecord()
    breaker.evolve(traffic.BreakerPinned("open", "ann"), 0)
    directory.apply({"anybody": breaker})
    assert problem(directory, "anybody") == "breaker_open"
    assert directory.select(["billing"]) is None
    assert directory.select(["law"]) is None
    directory.apply({"narrow": AgentRecord()})
    assert directory.select(["billing"]) == Selection("narrow", "can do billing")


def test_the_apps_agent_wins_over_a_registration_of_its_name(directory: AgentDirectory) -> None:
    own = directory.agent("narrow")
    directory.apply({"narrow": registered("narrow", until=5, capabilities=("law",))})
    assert directory.agent("narrow") is own
    assert problem(directory, "narrow", 10) is None
    assert directory.select(["law"]) == Selection("anybody", "nobody can do law: the generalist")
    assert [agent.name for agent in directory.agents()] == ["anybody", "broad", "narrow"]
    with pytest.raises(AgentDeclared, match="narrow"):
        directory.build(Card(name="narrow", url="https://x.org/"))


def test_a_card_that_changes_changes_the_agent_and_one_that_can_not_be_used_does_not(directory: AgentDirectory) -> None:
    directory.apply({"clerk": registered()})
    first = directory.agent("clerk")
    directory.apply({"clerk": registered(until=2_000)})
    assert directory.agent("clerk") is first, "compiled once"
    directory.apply({"clerk": registered(input_schema=NUMBER)})
    second = directory.agent("clerk")
    assert second is not first
    assert not directory.fits("clerk", b'"x"')
    directory.apply({"clerk": registered(input_schema={"$ref": "http://x.org/"}), "other": registered("other")})
    assert directory.agent("clerk") is second
    assert directory.agent("other") is not None
    with pytest.raises(InvalidSchema):
        directory.build(Card(name="bad", url="https://x.org/", output_schema={"type": 1}))


def test_the_chain_is_what_the_card_says_else_the_generalist(directory: AgentDirectory) -> None:
    directory.apply({"clerk": registered(), "lone": registered("lone", fallback=())})
    chains = {name: directory.chain(name) for name in ("broad", "narrow", "anybody", "clerk", "lone", "unheard-of")}
    assert chains == {
        "broad": ("clerk", "anybody"), "narrow": (), "anybody": (), "clerk": ("anybody",), "lone": (),
        "unheard-of": ("anybody",),
    }  # fmt: skip
    assert App("bare").directory.chain("x") == ()


def test_a_record_without_trouble_is_not_looked_at(directory: AgentDirectory) -> None:
    directory.apply({"narrow": AgentRecord(turn=rec.HealthTurn(1, 5), health="healthy")})
    assert directory._with_problem == {}
    directory.apply({"narrow": AgentRecord(health="unhealthy")})
    assert list(directory._with_problem) == ["narrow"]


def test_subscribers_are_those_who_are_there(directory: AgentDirectory) -> None:
    directory.apply({"clerk": registered(on=("ticket.opened",)), "other": registered("other", on=("ticket.closed",))})
    assert directory.subscribers("ticket.opened", 999) == ("clerk",)
    assert directory.subscribers("ticket.opened", 1_000) == ()
    with pytest.raises(ValueError, match="can't name an event"):
        Card(name="clerk", on=("Ticket Opened",)).check()
