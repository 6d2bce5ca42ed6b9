"""Simulated model latency: the demo calls no language model, and waits as long as one might have taken.

Lognormal with a median of 120 ms and a p99 near 0.6 s, cut at 0.99 s; drawn from the idempotency key, so
that the same call takes the same time in every process and every repetition. `POINTSMAN_DEMO_LATENCY`
scales it (0: none).
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
from statistics import NormalDist

SCALE = "POINTSMAN_DEMO_LATENCY"
MEDIAN_S = 0.120
SIGMA = 0.7  # p99 = 0.12 * exp(0.7 * 2.33) = 0.61 s
LONGEST_S = 0.99
_NORMAL = NormalDist()


class BadLatency(ValueError):
    """POINTSMAN_DEMO_LATENCY must be a number from 0 to 10: 1 is the default, 0 is no wait at all. (At 10 the
    longest call still ends within the agents' timeout.)"""


def scale() -> float:
    given = os.environ.get(SCALE, "1")
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 10:
        raise BadLatency(f"{given!r}: {BadLatency.__doc__}")
    return value


def seconds(key: str) -> float:
    """How long the call with this idempotency key takes, unscaled."""
    digest = hashlib.sha256(key.encode()).digest()
    share = (int.from_bytes(digest[:8], "big") + 0.5) / 2**64
    return min(LONGEST_S, MEDIAN_S * math.exp(SIGMA * _NORMAL.inv_cdf(min(share, 1 - 1e-12))))


async def think(key: str) -> None:
    """Wait as the model would have made us wait."""
    wait = seconds(key) * scale()
    if wait > 0:
        await asyncio.sleep(wait)
