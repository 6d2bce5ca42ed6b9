"""An agent of the demo that is made to fail for a while (`pointsman demo --fail billing`).

The switch is a file, so that it acts at once in all coordinators and leaves no trace when it is gone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FAILING = "POINTSMAN_DEMO_FAILING"
"""Names a file that holds, while it is there, the name of the agent that fails."""


class MadeToFail(Exception):
    """The drill wants this agent to fail."""


def check(agent: str) -> None:
    """Raises MadeToFail while the drill wants `agent` to fail."""
    path = os.environ.get(FAILING)
    if path:
        with suppress(FileNotFoundError):
            if Path(path).read_text() == agent:
                raise MadeToFail(f"{agent} is made to fail")
