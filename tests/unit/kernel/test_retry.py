"""Retry: when, and when not."""

from __future__ import annotations

import pytest

from pointsman import Retry
from pointsman.kernel.events import Failure
from pointsman.kernel.policy.retry import next_delay_ms

BOOM = Failure("exception")


def test_delays_double_within_the_jitter() -> None:
    retry = Retry(attempts=9, base=2.0, jitter=0.1, longest=20.0)
    assert [next_delay_ms(retry, n, BOOM, 0.5) for n in (1, 2, 3, 4, 5)] == [2_000, 4_000, 8_000, 16_000, 20_000]
    assert next_delay_ms(retry, 1, BOOM, 0.0) == 1_800
    assert 2_199 <= (next_delay_ms(retry, 1, BOOM, 0.999999) or 0) <= 2_200


def test_no_attempt_is_left_or_would_help() -> None:
    assert next_delay_ms(Retry(attempts=2), 2, BOOM, 0.5) is None
    assert next_delay_ms(Retry(), 1, Failure("refused", retryable=False), 0.5) is None


def test_retry_after_is_honoured_when_it_is_longer() -> None:
    assert next_delay_ms(Retry(), 1, Failure("rate_limited", retry_after_ms=30_000), 0.5) == 30_000
    assert next_delay_ms(Retry(), 1, Failure("rate_limited", retry_after_ms=1), 0.5) == 2_000


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base": -1}, {"factor": 0.5}, {"jitter": 1.0}, {"longest": -1}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="attempts >= 1"):
        Retry(**wrong)  # type: ignore[arg-type]
