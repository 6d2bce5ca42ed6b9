"""Simulated latency: the same for the same key, in the shape promised, scaled by the environment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pointsman.demo import latency


def test_the_shape_is_as_promised() -> None:
    drawn = sorted(latency.seconds(f"key-{i}") for i in range(10_000))
    assert 0.115 < drawn[5_000] < 0.125
    assert drawn[9_900] < 1
    assert drawn[-1] <= latency.LONGEST_S


def test_another_process_draws_the_same() -> None:
    code = "from pointsman.demo import latency; print(latency.seconds('k'))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(shown) == latency.seconds("k")


@pytest.mark.parametrize("given", ["-1", "nan", "quick", "11"])
def test_a_scale_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(latency.SCALE, given)
    with pytest.raises(latency.BadLatency):
        latency.scale()
