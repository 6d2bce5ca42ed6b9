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
