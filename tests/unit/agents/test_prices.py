"""Prices of models: the library's, read as dollars; what is not known has a named error that says what to do."""

from __future__ import annotations

import sys

import pytest

from pointsman.agents.prices import PricesMissing, UnknownPrice, usage_of, usd_of


def test_a_request_costs_what_its_tokens_cost() -> None:
    one = usd_of("gpt-4o", 1_000_000, 0)
    assert one > 0
    assert usd_of("gpt-4o", 500_000, 0) == pytest.approx(one / 2)
    assert usd_of("gpt-4o", 0, 1_000_000, provider="openai") > one, "output costs more than input"
    assert usd_of("gpt-4o", 0, 0) == 0


def test_usage_is_what_a_context_takes() -> None:
    usage = usage_of("gpt-4o", input_tokens=812, output_tokens=64)
    assert usage == {"usd": usd_of("gpt-4o", 812, 64), "tokens": 876}


def test_what_has_no_price_is_named() -> None:
    with pytest.raises(UnknownPrice, match=r"no-such-model.*ctx\.spend\(usd="):
        usd_of("no-such-model", 1, 1)
    with pytest.raises(UnknownPrice, match="of nobody"):
        usd_of("gpt-4o", 1, 1, provider="nobody")
    with pytest.raises(ValueError, match="output_tokens=-1"):
        usd_of("gpt-4o", 1, -1)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(PricesMissing, match=r"pip install .pointsman\[llm\]"):
        usd_of("gpt-4o", 1, 1)
