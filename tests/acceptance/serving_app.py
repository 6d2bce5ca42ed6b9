"""Agents in a process of their own, for a cluster that runs `failing_app.py`."""

from __future__ import annotations

import os

from pointsman import App

app = App("served")


@app.agent(capabilities=["astrology"])
async def astrologer(sign: str) -> str:
    return f"{sign} by {os.getpid()}"
