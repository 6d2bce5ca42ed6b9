"""What a shell offers at a TAB beyond commands and options: ids of runs, names of workflows and agents, by the API.

A TAB must neither fail nor wait: an API that does not answer at once offers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import typer

from pointsman.cli.client import DEFAULT_URL

TIMEOUT_S = 0.5
RUNS = 100
"""So many of the newest runs are offered, and their workflows."""


def runs(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of the newest runs."""
    return _fitting((run["id"] for run in _rows(context, "runs", limit=RUNS)), incomplete)


def workflows(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the workflows of the newest runs."""
    return _fitting((run["workflow"] for run in _rows(context, "runs", limit=RUNS)), incomplete)


def agents(context: typer.Context, incomplete: str) -> list[str]:
    """Names of agents."""
    return _fitting((agent["name"] for agent in _rows(context, "agents")), incomplete)


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _rows(context: typer.Context, what: str, **query: int) -> list[dict[str, Any]]:
    given = context.params
    token = given.get("token")
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        url = f"{str(given.get('url') or DEFAULT_URL).rstrip('/')}/v1/{what}"
        answer = httpx.get(url, params=query, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()[what]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError):
        return []
    return rows
