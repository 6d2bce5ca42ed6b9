"""The circuit breaker as pure functions: windows, the machine, and decisions on an agent's stream."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.agents import traffic as tr
from pointsman.agents.traffic import TRAFFIC_EVENTS, Limits, TrafficState, Wants, decide, permits_left, rate_left
from pointsman.kernel.events import Event
from pointsman.kernel.policy.breaker import (
    Breaker,
    BreakerState,
    Sums,
    open_until,
    reason_to_open,
    slow_after,
    speaks_for,
)
from pointsman.kernel.policy.windows import Window

POLICY = Breaker(window=10, calls_min=4, failure_rate=0.5, slow_rate=0.75, open_for=5, probes=2)
LIMITS = Limits(POLICY, 1_000)
BAD = Sums(4, 2, 0)


def folded(state: TrafficState, events: Sequence[Event], at: int) -> TrafficState:
    after = state.copy()
    for event in events:
        assert after.evolve(event, at)
    return after


def step(state: TrafficState, wants: Wants, at: int, *, me: int = 1, limits: Limits = LIMITS) -> TrafficState:
    return folded(state, decide(state, limits, me, wants, at), at)


def names(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def opened(at: int = 0) -> TrafficState:
    return step(TrafficState(), Wants(sums=BAD), at)


def half_open(probes: Sequence[str] = ("a", "b"), at: int = 5_000) -> TrafficState:
    return step(opened(), Wants(probes=list(probes)), at)


# -- windows -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30))
def test_a_window_sums_exactly_its_seconds(seconds: int, counts: list[tuple[int, int]]) -> None:
    window, second, all_counts = Window(seconds, 2), 0, []
    for pause, number in counts:
        second += pause
        window.add(second, number, 1)
        all_counts.append((second, number))
    end = second + 3
    for moment in (second, end):
        inside = [number for at, number in all_counts if moment - seconds < at <= moment]
        assert window.sums(moment) == (sum(inside), len(inside))


def test_a_clock_that_goes_back_loses_no_count() -> None:
    window = Window(5, 1)
    window.add(100, 1)
    window.add(98, 1)
    assert window.sums(104) == (2,)
    assert window.sums(105) == (0,)


def test_a_window_needs_a_second_and_a_number() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Window(0, 1)


# -- the rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        (Sums(3, 3, 3), ""),
        (Sums(4, 1, 0), ""),
        (Sums(4, 2, 0), "2 of 4 calls failed"),
        (Sums(100, 49, 74), ""),
        (Sums(100, 0, 75), "75 of 100 calls were slow"),
        (Sums(0, 0, 0), ""),
    ],
)
def test_it_opens_on_rates_over_enough_calls(sums: Sums, reason: str) -> None:
    assert reason_to_open(POLICY, sums) == reason


def test_slow_is_four_fifths_of_the_timeout_unless_the_card_says() -> None:
    assert slow_after(Breaker(), 10) == 8
    assert slow_after(Breaker(slow_after=1.5), 10) == 1.5


def test_each_opening_in_a_row_doubles_the_wait_up_to_a_minute() -> None:
    waits = [open_until(POLICY, BreakerState(openings=n), 100) - 100 for n in range(6)]
    assert waits == [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]
    assert open_until(Breaker(open_for=300), BreakerState(openings=3), 0) == 300_000


@pytest.mark.parametrize(
    ("kind", "is_slow", "ok"),
    [
        (None, False, True),
        (None, True, False),
        ("timeout", False, False),
        ("made_up_by_the_agent", False, False),
        ("refused", False, True),
        ("invalid_input", False, None),
    ],
)
def test_what_the_end_of_a_probe_tells(kind: str | None, is_slow: bool, ok: bool | None) -> None:
    assert speaks_for(kind, is_slow) is ok


# -- the machine -------------------------------------------------------------------------------------------------------


def test_it_opens_once_and_says_why() -> None:
    events = decide(TrafficState(), LIMITS, 1, Wants(sums=BAD), 7_000)
    assert events == [tr.BreakerOpened("2 of 4 calls failed", 12_000, 4, 2, 0)]
    state = folded(TrafficState(), events, 7_000)
    assert decide(state, LIMITS, 2, Wants(sums=BAD), 7_001) == []


def test_counts_of_before_its_closing_do_not_open_it() -> None:
    state = TrafficState(BreakerState(closed_at=9_000))
    assert decide(state, LIMITS, 1, Wants(sums=BAD, counted_since=0), 9_100) == []
    assert names(decide(state, LIMITS, 1, Wants(sums=BAD, counted_since=9_000), 9_100)) == ["BreakerOpened"]


def test_nobody_probes_before_its_time() -> None:
    state = opened()
    assert decide(state, LIMITS, 1, Wants(probes=["a"]), 4_999) == []
    assert state.breaker.holds_back(POLICY, 4_999)
    assert not state.breaker.holds_back(POLICY, 5_000)
    events = decide(state, LIMITS, 1, Wants(probes=["a"]), 5_000)
    assert events == [tr.BreakerHalfOpened(), tr.ProbeGranted("a", 1, 7_000)]


def test_probes_are_limited_in_the_whole_cluster() -> None:
    state = half_open(("a",))
    state = step(state, Wants(probes=["b", "c", "d"]), 5_001, me=2)
    assert set(state.breaker.probes) == {"a", "b"}
    assert decide(state, LIMITS, 3, Wants(probes=["e"]), 5_002) == []
    assert state.breaker.holds_back(POLICY, 5_002)
    state = step(state, Wants(ended={"a": (True, "completed")}), 5_003)
    assert decide(state, LIMITS, 3, Wants(probes=["e"]), 5_004) == [], "so many in all, not at once"


def test_as_many_good_probes_as_were_asked_for_close_it() -> None:
    state = step(half_open(), Wants(ended={"a": (True, "completed")}), 5_500)
    assert state.breaker.position == "half_open"
    state = step(state, Wants(ended={"b": (True, "completed")}), 5_600)
    assert state.breaker == BreakerState(closed_at=5_600, until=5_000)
    assert open_until(POLICY, state.breaker, 6_000) == 11_000, "and the wait is the first again"


def test_a_bad_probe_opens_it_again_for_longer() -> None:
    events = decide(half_open(), LIMITS, 1, Wants(ended={"b": (False, "timeout")}, probes=["c"]), 6_000)
    assert names(events) == ["ProbeEnded", "BreakerOpened"]
    state = folded(half_open(), events, 6_000)
    assert (state.breaker.until, state.breaker.probes) == (16_000, {})


def test_a_probe_without_an_outcome_has_failed_at_its_deadline() -> None:
    state = half_open(("a",))
    assert decide(state, LIMITS, 2, Wants(), 7_000) == []
    events = decide(state, LIMITS, 2, Wants(), 7_001)
    assert names(events) == ["ProbeEnded", "BreakerOpened"]


def test_a_probe_that_told_nothing_makes_room_for_another() -> None:
    state = half_open()
    events = decide(state, LIMITS, 2, Wants(probes=["c"], dead=frozenset({1})), 5_100)
    assert names(events) == ["ProbeEnded", "ProbeEnded", "ProbeGranted"]
    assert folded(state, events, 5_100).breaker.succeeded == 0
    events = decide(state, LIMITS, 1, Wants(ended={"a": (None, "abandoned")}, probes=["c"]), 5_100)
    assert names(events) == ["ProbeEnded", "ProbeGranted"]


def test_pinned_closed_it_never_opens_and_counts_afresh_later() -> None:
    state = folded(TrafficState(), tr.pin(TrafficState(), "closed", "ann"), 1_000)
    assert state.breaker.is_closed
    assert decide(state, LIMITS, 1, Wants(sums=BAD), 2_000) == []
    state = folded(state, tr.unpin(state, "ann"), 3_000)
    assert (state.breaker.pinned, state.breaker.closed_at) == (None, 3_000)


def test_pinned_closed_lets_everybody_pass_an_open_one() -> None:
    state = opened()
    assert folded(state, tr.pin(state, "closed", "ann"), 1_000).breaker.is_closed


def test_pinned_open_nothing_passes_and_probes_come_first_later() -> None:
    state = folded(opened(), tr.pin(opened(), "open", "ann"), 1_000)
    assert decide(state, LIMITS, 1, Wants(probes=["a"], sums=BAD), 99_000) == []
    assert state.breaker.holds_back(POLICY, 99_000)
    state = folded(state, tr.unpin(state, "ann"), 99_000)
    assert names(decide(state, LIMITS, 1, Wants(probes=["a"]), 99_000)) == ["BreakerHalfOpened", "ProbeGranted"]


def test_pinning_twice_is_once_and_only_to_a_position() -> None:
    state = folded(TrafficState(), tr.pin(TrafficState(), "open", "ann"), 1)
    assert tr.pin(state, "open", "bob") == []
    assert tr.unpin(TrafficState(), "bob") == []
    with pytest.raises(ValueError, match="open or closed"):
        tr.pin(state, "ajar", "bob")


# -- concurrency -------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.integers(1, 4), st.none() | st.integers(0, 8), st.none() | st.integers(1, 4), st.sets(st.integers(1, 4))
        ),
        max_size=40,
    ),
)
def test_slots_never_exceed_the_limit_and_the_dead_hold_none(
    limit: int, steps: list[tuple[int, int | None, int | None, set[int]]]
) -> None:
    state, dead = TrafficState(), frozenset[int]()
    limits = Limits(POLICY, 1_000, concurrency=limit)
    for me, permits, heir, died in steps:
        dead |= died
        if me in dead:
            continue
        state = step(state, Wants(permits=permits, heir=heir, dead=dead), 0, me=me, limits=limits)
        assert permits_left(state, limit) >= 0
        assert not dead & state.permits.keys()
        assert all(count > 0 for count in state.permits.values())


def test_a_wish_for_slots_can_be_repeated() -> None:
    limits = Limits(POLICY, 1_000, concurrency=5)
    state = step(TrafficState(), Wants(permits=3), 0, limits=limits)
    assert decide(state, limits, 1, Wants(permits=3), 0) == []
    state = step(state, Wants(permits=1, heir=2), 0, limits=limits)
    assert state.permits == {1: 1, 2: 2}
    assert decide(state, limits, 1, Wants(permits=1, heir=2), 0) == []


def test_slots_are_not_handed_to_the_dead() -> None:
    limits = Limits(POLICY, 1_000, concurrency=2)
    state = step(TrafficState(), Wants(permits=2), 0, limits=limits)
    state = step(state, Wants(permits=0, heir=2, dead=frozenset({2})), 0, limits=limits)
    assert state.permits == {}


def test_who_leaves_gets_nothing_even_if_others_took_its_slots_for_a_dead_ones() -> None:
    limits = Limits(POLICY, 1_000, concurrency=2)
    assert decide(TrafficState(), limits, 1, Wants(permits=2, is_leaving=True), 0) == []


# -- rate --------------------------------------------------------------------------------------------------------------


@given(st.floats(1, 50), st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 80)), max_size=60))
def test_a_second_never_gets_more_than_the_rate(rate: float, asks: list[tuple[int, int, int]]) -> None:
    limits = Limits(POLICY, 1_000, rate=rate)
    state, second, granted = TrafficState(), 1_700_000_000, dict[int, int]()
    for pause, me, want in asks:
        second += pause
        for event in decide(state, limits, me, Wants(rate=want, second=second), 0):
            assert isinstance(event, tr.RateGranted)
            granted[event.second] = granted.get(event.second, 0) + event.count
            state = folded(state, [event], 0)
    assert all(count <= ceil(rate) for count in granted.values())
    span = second - 1_700_000_000 + 1
    assert sum(granted.values()) <= rate * span + 1


def test_whole_seconds_add_up_to_the_rate() -> None:
    allowed = [rate_left(TrafficState(), 2.5, second) for second in range(1_700_000_000, 1_700_000_010)]
    assert sum(allowed) == 25
    assert set(allowed) == {2, 3}


def test_below_one_a_second_the_first_never_waits_and_the_next_does() -> None:
    limits = Limits(POLICY, 1_000, rate=0.25)
    state = step(TrafficState(), Wants(rate=1, second=1_003), 0, limits=limits)
    assert state.rate_granted == {1: 1}
    assert [rate_left(state, 0.25, second) for second in (1_003, 1_004, 1_006, 1_007)] == [0, 0, 0, 1]


def test_a_wish_for_attempts_can_be_repeated() -> None:
    limits = Limits(POLICY, 1_000, rate=9.0)
    state = step(TrafficState(), Wants(rate=3, second=101), 0, limits=limits)
    assert decide(state, limits, 1, Wants(rate=3, second=101), 0) == []


def test_a_second_that_is_over_is_not_opened_again() -> None:
    limits = Limits(POLICY, 1_000, rate=3.0)
    state = step(TrafficState(), Wants(rate=3, second=101), 0, limits=limits)
    assert rate_left(state, 3.0, 100) == 0
    assert decide(state, limits, 2, Wants(rate=3, second=100), 0) == []


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_state_and_events_are_json() -> None:
    state = step(half_open(), Wants(permits=2), 5_100, limits=Limits(POLICY, 1_000, concurrency=3))
    state = step(state, Wants(rate=2, second=9), 9_000, limits=Limits(POLICY, 1_000, rate=3.0))
    assert msgspec.json.decode(msgspec.json.encode(state), type=TrafficState) == state
    assert state.permits == {1: 2}
    assert state.rate_granted == {1: 2}
    for event in (tr.ProbeEnded("a", None, "x"), tr.BreakerOpened("r", 5), tr.PermitsGranted(1, 2)):
        kind = TRAFFIC_EVENTS[type(event).__name__]
        assert msgspec.json.decode(msgspec.json.encode(event), type=kind) == event


def test_a_copy_is_a_state_of_its_own() -> None:
    state = half_open()
    before = msgspec.json.encode(state)
    step(state, Wants(ended={"a": (True, "completed")}), 5_100)
    assert msgspec.json.encode(state) == before


def test_other_events_are_not_its_business() -> None:
    class Else(Event, frozen=True):
        pass

    assert not TrafficState().evolve(Else(), 0)
