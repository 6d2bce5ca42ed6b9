"""The system's clock, held so that it never goes back."""

import time

import pytest

from pointsman.stores.inprocess.clock import SystemClock


def test_it_tells_the_time_in_milliseconds() -> None:
    before = time.time()
    assert before * 1000 - 1 <= SystemClock().now() <= time.time() * 1000 + 1


def test_it_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    times = iter([5_000_000_000, 9_000_000_000, 6_000_000_000, 9_001_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    assert [clock.now() for _ in range(4)] == [5_000, 9_000, 9_000, 9_001]


def test_each_has_a_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, other = SystemClock(), SystemClock()
    monkeypatch.setattr(time, "time_ns", lambda: 9_000_000_000)
    ahead.now()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert (ahead.now(), other.now()) == (9_000, 1_000)


def test_timers_go_on_while_the_wall_clock_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back by an hour, it would stand still for an hour, and every timer with it."""
    clock, begun, passed_s, behind_s = SystemClock(), 1_700_000_000, 0, 0

    def after(seconds: int) -> int:
        nonlocal passed_s
        passed_s = seconds
        return clock.now() - begun * 1000

    monkeypatch.setattr(time, "monotonic", lambda: 50.0 + passed_s)
    monkeypatch.setattr(time, "time_ns", lambda: (begun + passed_s - behind_s) * 1_000_000_000)
    assert after(0) == 0
    behind_s = 3_600
    assert [after(seconds) for seconds in (0, 1, 10, 3_600)] == [0, 500, 5_000, 1_800_000]
    assert [after(seconds) for seconds in (7_198, 7_200, 7_300)] == [3_598_000, 3_600_000, 3_700_000]
