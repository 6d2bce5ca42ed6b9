"""The plan of failures."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from benchmarks.triage.data import Ticket
from benchmarks.triage.plan import KINDS, Fate, Plan
from pointsman.kernel.policy.failures import FAILURE_KINDS

FATE_17_S = 0.21131405713378834
FATES = [Plan().fate(row, "triage", 1) for row in range(20_000)]


def test_a_fate_is_the_same_in_every_process() -> None:
    """Literals: they were drawn in another process, so no seed of that one went into them."""
    assert Plan().fate(17, "cash", 2) == Fate(None, pytest.approx(FATE_17_S))


@pytest.mark.parametrize("other", [(18, "cash", 2), (17, "access", 2), (17, "cash", 3)])
def test_ticket_agent_and_attempt_decide_it(other: tuple[int, str, int]) -> None:
    assert Plan().fate(*other) != Plan().fate(17, "cash", 2)


def test_the_seed_decides_it() -> None:
    assert [Plan(seed=8).fate(row, "triage", 1) for row in range(50)] != FATES[:50]


def test_eight_percent_fail_by_all_kinds_alike() -> None:
    kinds = Counter(fate.kind for fate in FATES if fate.kind is not None)
    assert sum(kinds.values()) / len(FATES) == pytest.approx(0.08, abs=0.006)
    assert set(kinds) == set(KINDS) <= set(FAILURE_KINDS)
    assert all(count / len(FATES) == pytest.approx(0.01, abs=0.003) for count in kinds.values())


def test_latency_is_lognormal_and_cut_below_the_timeout() -> None:
    seconds = sorted(fate.seconds for fate in FATES if fate.kind is None)
    assert seconds[len(seconds) // 2] == pytest.approx(0.3, rel=0.05)
    assert seconds[int(len(seconds) * 0.99)] == pytest.approx(2.0, rel=0.1)
    assert seconds[-1] == Plan().longest_s < Plan().timeout_s


def test_only_planned_timeouts_take_the_timeout_and_a_rate_limit_takes_nothing() -> None:
    assert {fate.seconds for fate in FATES if fate.kind == "timeout"} == {Plan().timeout_s}
    assert {fate.seconds for fate in FATES if fate.kind == "rate_limited"} == {0.0}


@pytest.mark.parametrize(("since", "is_down"), [(2.9, False), (3.0, True), (22.9, True), (23.0, False)])
def test_one_agent_is_down_for_twenty_seconds(since: float, is_down: bool) -> None:
    assert Plan().is_down("cash", since) is is_down
    assert not Plan().is_down("access", since)


def test_the_printed_plan_counts_what_it_holds() -> None:
    tickets = [Ticket(row, "", "cash") for row in range(500)]
    said = Plan().describe(tickets)
    fates = [Plan().fate(row, agent, 1) for row in range(500) for agent in ("triage", "cash")]
    first = said["first_attempts"]
    assert first["calls"] == 1000
    assert first["failing"] == sum(first["by_kind"].values()) == sum(fate.kind is not None for fate in fates)
    assert first["by_kind"]["timeout"] == sum(fate.kind == "timeout" for fate in fates)
    assert {name: said[name] for name in Plan.__struct_fields__} == msgspec.structs.asdict(Plan())
