"""What happens to the runs of a coordinator, asked of its API again and again. Must not know how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

RUNS = 50
"""The newest runs are followed."""
EVENTS = 200
"""Of a run, at one look; what is more comes with the next."""

Event = Mapping[str, Any]


@dataclass
class Seen:
    """A run as it was last seen. `last`: its last event."""

    sequence: int
    last: Event | None = None


@dataclass
class Look:
    """The runs, newest first, what is new of them (run, event), and what each did last."""

    runs: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[tuple[str, Event]] = field(default_factory=list)
    last: Mapping[str, Event] = field(default_factory=dict)


class Follower:
    """Follows the runs of a coordinator by asking its API repeatedly. What ended before the first look is not new."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=2.0, trust_env=False)
        self._seen: dict[str, Seen] = {}
        self._is_first = True

    async def look(self) -> Look | None:
        """None: nobody answers at the moment."""
        try:
            return await self._look()
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    async def close(self) -> None:
        await self._http.aclose()

    async def _look(self) -> Look:
        runs = (await self._get("/v1/runs", limit=RUNS))["runs"]
        found: list[tuple[str, Event]] = []
        for run in reversed(runs):
            seen = self._seen.get(run["id"])
            if seen is None:
                seen = self._seen[run["id"]] = Seen(run["sequence"] - 1 if self._is_first else 0)
            if run["sequence"] > seen.sequence:
                page = await self._get(f"/v1/runs/{run['id']}/events", after=seen.sequence, limit=EVENTS)
                for event in page["events"]:
                    seen.sequence, seen.last = event["sequence"], event
                    if not (self._is_first and run["ended_at"]):
                        found.append((run["id"], event))
        self._is_first = False
        listed = {run["id"] for run in runs}
        self._seen = {run: seen for run, seen in self._seen.items() if run in listed}
        last = {run: seen.last for run, seen in self._seen.items() if seen.last is not None}
        return Look(runs, found, last)

    async def _get(self, path: str, **query: int) -> Any:
        answer = await self._http.get(path, params=query)
        return answer.raise_for_status().json()
