"""The simulated agents, and the orchestrator whose state is in memory, on a virtual clock and under its supervisor."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.triage import agents, data, plain
from benchmarks.triage.agents import BACKUP, OUTPUT_BYTES_MAX, STARTED, Setup, SetupMissing, World, answer
from benchmarks.triage.data import Ticket
from benchmarks.triage.plain import Begun, Ended, Handling, Line
from benchmarks.triage.plan import KINDS, TRIAGE, Plan
from benchmarks.triage.rival import Rival, RivalFailed
from pointsman import AgentError
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.testing.sim.loop import SimLoop
from tests.unit.benchmarks.planned import ByHand

TICKET = Ticket(7, "my card arrival, please", "card_delivery")
DESK = "card_delivery"
TOOK_S = 0.5
QUICK = Plan(fails=0.0, median_s=0.002, p99_s=0.004, longest_s=0.01, down_agent="nobody")
MakeWorld = Callable[[Plan], World]
Said = list[Line]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """What the orchestrator says, in place of standard output."""
    lines: Said = []
    monkeypatch.setattr(plain, "say", lines.append)
    return lines


@pytest.fixture
def under(make_world: MakeWorld) -> Callable[[dict[tuple[str, int], str]], World]:
    """A world in which these attempts fail."""

    def make(fates: dict[tuple[str, int], str]) -> World:
        world = make_world(QUICK)
        world.plan = ByHand(fates=fates, down_agent="nobody")
        return world

    return make


def run(coroutine: Any) -> Any:
    loop = SimLoop(random.Random(1))
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def handle(said: Said, attempts_max: int = 3) -> Ended:
    run(Handling(3, TICKET, 0.0, attempts_max).handle())
    assert said[0] == Begun(3)
    ended = said[-1]
    assert isinstance(ended, Ended)
    return ended


# -- the agents ------------------------------------------------------------------------------------------------------


def test_agents_give_what_they_are_for(under: Any) -> None:
    under({})
    assert run(answer(TRIAGE, 7, TICKET.text, 1)) == DESK
    assert run(answer(BACKUP, 7, TICKET.text, 1)) == DESK
    assert run(answer(DESK, 7, TICKET.text, 1))["agent"] == DESK


@pytest.mark.parametrize("agent", [TRIAGE, DESK])
@pytest.mark.parametrize("kind", ["malformed_output", "refused", "context_overflow", "rate_limited"])
def test_failures_that_an_agent_names(under: Any, agent: str, kind: str) -> None:
    under({(agent, 1): kind})
    with pytest.raises(AgentError) as caught:
        run(answer(agent, 7, TICKET.text, 1))
    assert caught.value.kind == kind
    assert (caught.value.retry_after == 0.5) is (kind == "rate_limited")


@pytest.mark.parametrize("agent", [TRIAGE, DESK])
def test_failures_that_others_must_find(under: Any, agent: str) -> None:
    under({(agent, 1): "exception", (agent, 2): "invalid_output", (agent, 3): "output_too_large"})
    with pytest.raises(RuntimeError):
        run(answer(agent, 7, TICKET.text, 1))
    assert run(answer(agent, 7, TICKET.text, 2)) == {"answer": 42}
    assert len(str(run(answer(agent, 7, TICKET.text, 3)))) >= OUTPUT_BYTES_MAX


def test_an_agent_that_is_down_is_down_from_the_start_of_the_load(under: Any, tmp_path: Path) -> None:
    world = under({})
    world.plan = ByHand(fates={}, down_agent=DESK, down_after_s=0.0)
    assert run(answer(DESK, 7, TICKET.text, 1))  # nothing has begun
    agents.start_clock(tmp_path / "setup.json")
    assert world.started == pytest.approx(time.time(), abs=60)
    with pytest.raises(AgentError, match="is down") as caught:
        run(answer(DESK, 7, TICKET.text, 1))
    assert caught.value.kind == "unreachable"
    assert run(answer(TRIAGE, 7, TICKET.text, 1)) == DESK


def test_without_a_setup_there_is_no_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(agents.SETUP, raising=False)
    agents.world.cache_clear()
    with pytest.raises(SetupMissing, match="start it with"):
        agents.world()


# -- the orchestrator ------------------------------------------------------------------------------------------------


def test_a_ticket_that_nothing_happens_to(under: Any, said: Said) -> None:
    under({})
    took = pytest.approx(2 * TOOK_S, abs=1e-4)
    assert handle(said) == Ended(3, "answered", "", took, 2 * TOOK_S, 0.0, DESK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("agent", [TRIAGE, DESK])
def test_what_can_be_retried_is_and_nothing_else(under: Any, said: Said, agent: str, kind: str) -> None:
    world = under({(agent, 1): kind})
    ended = handle(said)
    if FAILURE_KINDS[kind].retryable:
        pause = 0.5 if kind == "rate_limited" else 0.2
        assert (ended.status, ended.saved_by) == ("answered", "retry")
        assert ended.waits_s == pytest.approx(pause, rel=0.11)
        assert ended.agent_s == pytest.approx(2 * TOOK_S + world.plan.fate(7, agent, 1).seconds)
    else:
        assert (ended.status, ended.saved_by, ended.waits_s) == ("failed", "", 0.0)
    assert ended.latency_s == pytest.approx(ended.agent_s + ended.waits_s, abs=1e-4)


def test_after_the_last_attempt_it_fails(under: Any, said: Said) -> None:
    under({(DESK, attempt): "exception" for attempt in (1, 2, 3)})
    ended = handle(said)
    assert (ended.status, ended.named) == ("failed", DESK)
    assert ended.waits_s == pytest.approx(0.2 + 0.4, rel=0.11)


def test_a_chain_retries_nothing(under: Any, said: Said) -> None:
    under({(TRIAGE, 1): "exception"})
    assert handle(said, attempts_max=1).status == "failed"


def test_a_chain_takes_one_ticket_after_the_other(under: Any, said: Said) -> None:
    under({})
    run(plain.chain(15))
    assert [type(line) for line in said] == [Begun, Ended] * 5
    assert [line.number for line in said[::2] if isinstance(line, Begun)] == [15, 16, 17, 18, 19]


def test_tickets_arrive_by_the_clock(under: Any, said: Said, tmp_path: Path) -> None:
    world = under({})
    in_a_minute = time.time() + 60  # by then it waits for the first, however slow this machine is
    (tmp_path / STARTED).write_text(repr(in_a_minute))
    run(plain.single(0))
    assert [line.number for line in said if isinstance(line, Begun)] == list(range(20))
    assert isinstance(said[19], Begun)  # all are under way before the first ends: 20 of 1,000 a second, 1 s each
    assert {line.status for line in said if isinstance(line, Ended)} == {"answered"}
    assert world.setup.per_second == 1000


# -- under its supervisor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["chain", "single"])
async def test_what_was_in_memory_is_lost_and_the_rest_goes_on(small_file: Path, tmp_path: Path, mode: str) -> None:
    setup = Setup(str(small_file), QUICK, count=60, per_second=1000.0)
    tickets = data.in_order(data.load(small_file), QUICK.seed, 60)
    rival = Rival(mode, tmp_path, setup)
    outcomes, seconds = await rival.run(tickets)
    assert [outcome.ticket for outcome in outcomes] == tickets
    assert rival.killed_at_s is not None
    assert 0 < rival.killed_at_s < seconds
    answered = sum(outcome.status == "answered" for outcome in outcomes)
    lost = sum(outcome.status == "lost" for outcome in outcomes)
    assert answered + lost == 60
    assert answered >= 24  # the kill comes when 24 are done
    assert mode == "single" or lost <= 1
    assert all((outcome.latency_s is not None) is (outcome.status == "answered") for outcome in outcomes)


async def test_a_process_that_ends_by_itself_is_no_result(small_file: Path, tmp_path: Path) -> None:
    tickets = data.in_order(data.load(small_file), QUICK.seed, 60)
    rival = Rival("chain", tmp_path, Setup(str(small_file), QUICK, count=10, per_second=1000.0))
    rival.killed_at_s = 0.0  # so that nobody kills it
    with pytest.raises(RivalFailed, match="exit code 0 after 10 tickets"):
        await rival.run(tickets)
