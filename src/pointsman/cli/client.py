"""The API as the verbs need it: plain JSON, which they show as it came, over `pointsman.client`.

Must not know how anything is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from pointsman import client as api
from pointsman.cli.exits import Usage
from pointsman.client.asks import path
from pointsman.client.exchange import DEFAULT_URL
from pointsman.client.following import HELD_STATUSES as HELD

CONNECT_FOR_S = 0.3
"""While nobody has answered yet: who waits at a terminal wants to be told that the address is wrong."""
RETRY_FOR_S = 30.0
TERMINAL_EVENTS = {"RunCompleted": "completed", "RunFailed": "failed", "RunWasCancelled": "cancelled"}


def run_path(run: str, *rest: str) -> str:
    """The path of a run, or of something of it. What a person typed is one segment each, whatever is in it.

    Raises:
        Usage: a segment is empty.
    """
    if not all((run, *rest)):
        raise Usage("the id is empty: give the run's id" if not run else "the name is empty: give the signal's name")
    return path("runs", run, *rest)


def item_path(collection: str, name: str, *rest: str) -> str:
    """The path of something that is no run: a task, an agent, a breaker, a budget.

    Raises:
        Usage: a segment is empty.
    """
    if not all((name, *rest)):
        raise Usage(f"the name is empty: `ls` shows which {collection} there are")
    return path(collection, name, *rest)


class Client:
    """One API, by its base URL. Blocking.

    Raises:
        Usage: the URL is none. Unreachable: nobody answers there. The API's errors, by name.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        try:
            self._api = api.Client(url, token=token, retry_for=RETRY_FOR_S, connect_for=CONNECT_FOR_S)
        except api.InvalidArgument as error:
            raise Usage(f"--url {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.close()

    def get(self, path: str, **params: Any) -> Any:
        """The answer's JSON."""
        return self._api.request("GET", path, params=params)[1]

    def post(self, path: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON. Everything that is posted carries an id or key, or says the same when it is said twice."""
        return self._api.request("POST", path, body=body, headers=headers)

    def put(self, path: str, body: bytes) -> Any:
        """The answer's JSON. Setting twice is setting once."""
        return self._api.request("PUT", path, body=body)[1]

    def result(self, run: str, timeout_s: float | None) -> Any:
        """The run's result once it has ended or is held back, whoever of the cluster dies meanwhile.

        Raises: DeadlinePassed.
        """
        return _plain(self._api.wait(run, timeout=timeout_s))

    def follow(self, run: str, after: int) -> Iterator[Mapping[str, Any]]:
        """The run's events from `after` on as they come, each once, until it has ended."""
        return (_plain(event) for event in self._api.follow(run, after=after))


def _plain(answer: msgspec.Struct) -> Any:
    return msgspec.json.decode(msgspec.json.encode(answer))


__all__ = ["DEFAULT_URL", "HELD", "TERMINAL_EVENTS", "Client", "item_path", "run_path"]
