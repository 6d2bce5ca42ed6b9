"""The API's client, as the verbs need it: requests whose errors are named, and the live event stream.

Must not know how anything is shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from pointsman.cli.exits import CommandError, DeadlinePassed, Exit, Unreachable, Usage

DEFAULT_URL = "http://127.0.0.1:7777"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
STREAM_SILENCE_S = 45.0
"""A live stream says something every 15 s; three times that without a word, and it is taken for dead."""
PATIENCE_S = 30.0
"""How long a stream or a wait that has once worked looks for a coordinator that answers again."""
POLLS_S = (0.0, 1.0, 5.0, 20.0)
"""How long each question for a result waits. A run that is held back does not answer before: hence the short ones."""
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
ENDED = ("completed", "failed", "cancelled")
HELD = ("stopped", "quarantined")
"""A run that nobody drives until somebody does something about it."""
TERMINAL_EVENTS = {"RunCompleted": "completed", "RunFailed": "failed", "RunWasCancelled": "cancelled"}


def run_path(run: str, *rest: str) -> str:
    """The path of a run, or of something of it. What a person typed is one segment each, whatever is in it.

    Raises:
        Usage: a segment is empty.
    """
    if not all((run, *rest)):
        raise Usage("the id is empty: give the run's id" if not run else "the name is empty: give the signal's name")
    return "/".join(["/v1/runs", *map(_segment, (run, *rest))])


def item_path(collection: str, name: str, *rest: str) -> str:
    """The path of something that is no run: a task, an agent, a breaker, a budget.

    Raises:
        Usage: a segment is empty.
    """
    if not all((name, *rest)):
        raise Usage(f"the name is empty: `ls` shows which {collection} there are")
    return "/".join([f"/v1/{collection}", *map(_segment, (name, *rest))])


def _segment(typed: str) -> str:
    segment = quote(typed, safe="", errors="surrogateescape")
    return segment if segment.strip(".") else segment.replace(".", "%2E")  # `..` would climb


class Refused(CommandError):
    """The API answered with a problem; its code is the API's."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retryable = status == 503
        self.exit = Exit.UNREACHABLE if status in (502, 503, 504) else Exit.FAILED


class Client:
    """One API, by its base URL. Blocking.

    Raises:
        Usage: the URL is none. Unreachable: nobody answers there. Refused: it answers with an error.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=headers, trust_env=False,
                timeout=httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            )  # fmt: skip
        except (httpx.InvalidURL, ValueError) as error:
            raise Usage(f"--url {url}: {error}") from error
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise Usage(f"--url {url}: give it as http://host:port")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # -- requests ----------------------------------------------------------------------------------------

    def get(self, path: str, **params: Any) -> Any:
        """The answer's JSON. Reading is safe to repeat, so a connection that breaks is tried once more."""
        try:
            return self._send("GET", path, params=params)
        except Unreachable:
            return self._send("GET", path, params=params)

    def post(self, path: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Status and JSON. Everything that is posted carries an id or key, so it is safe to repeat too."""
        try:
            return self._exchange("POST", path, body=body, headers=headers)
        except Unreachable:
            return self._exchange("POST", path, body=body, headers=headers)

    def put(self, path: str, body: bytes) -> Any:
        """The answer's JSON. Setting twice is setting once."""
        try:
            return self._exchange("PUT", path, body=body)[1]
        except Unreachable:
            return self._exchange("PUT", path, body=body)[1]

    def _send(self, method: str, path: str, params: Mapping[str, Any]) -> Any:
        return self._exchange(method, path, params=params)[1]

    def _exchange(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: bytes | None = None,
        headers: Mapping[str, str] | None = None, read_timeout_s: float = READ_TIMEOUT_S,
    ) -> tuple[int, Any]:  # fmt: skip
        given = {name: value for name, value in (params or {}).items() if value not in (None, [])}
        sent = {**(headers or {}), **({"content-type": "application/json"} if body is not None else {})}
        timeout = httpx.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S)
        try:
            response = self._http.request(method, path, params=given, content=body, headers=sent, timeout=timeout)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        return response.status_code, self._checked(response)

    def _checked(self, response: httpx.Response) -> Any:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code < 400 and answer is not None:
            return answer
        if not isinstance(answer, dict) or "code" not in answer:
            message = f"{self.url} answered {response.status_code}, but not as Pointsman's API does: check --url"
            raise Refused("not_pointsman", message, response.status_code)
        message = str(answer.get("detail") or answer.get("title") or "")
        raise Refused(str(answer["code"]), message, response.status_code)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no answer from {self.url} ({str(error) or type(error).__name__}): "
            "start a cluster with `pointsman up`, or say where it is with --url or POINTSMAN_URL"
        )

    # -- waiting -----------------------------------------------------------------------------------------

    def result(self, run: str, timeout_s: float | None) -> Any:
        """The run's result once it has ended or is held back, whoever of the cluster dies meanwhile.

        Raises: DeadlinePassed.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        retry = _Patience()
        polls = iter(POLLS_S)
        poll_s = next(polls)
        while True:
            left = poll_s if deadline is None else max(deadline - time.monotonic(), 0.0)
            wait_s = min(left, poll_s)
            try:
                _, answer = self._exchange(
                    "GET", run_path(run, "result"), params={"timeout": f"{wait_s:.3f}"},
                    read_timeout_s=wait_s + READ_TIMEOUT_S,
                )  # fmt: skip
            except (Unreachable, Refused) as error:
                retry.failed(error)
                continue
            retry.worked()
            poll_s = next(polls, POLLS_S[-1])
            if answer["status"] in ENDED + HELD:
                return answer
            if deadline is not None and time.monotonic() >= deadline:
                raise DeadlinePassed(f"run {run} is {answer['status']} after {timeout_s:g} s; it goes on, ask again")

    def follow(self, run: str, after: int) -> Iterator[Mapping[str, Any]]:
        """The run's events from `after` on as they come, each once, until it has ended.

        A stream that breaks is taken up again after the last event that came, wherever somebody answers.
        """
        retry = _Patience()
        while True:
            try:
                for event in self._stream(run, after):
                    retry.worked()
                    if event is None:
                        return
                    if event["sequence"] > after:
                        after = event["sequence"]
                        yield event
                retry.pause()
            except (Unreachable, Refused) as error:
                retry.failed(error)

    def _stream(self, run: str, after: int) -> Iterator[Mapping[str, Any] | None]:
        """Events of one connection; None at the end of the run; without it, the connection was cut."""
        path = run_path(run, "stream")
        headers = {"accept": "text/event-stream", "last-event-id": str(after)}
        timeout = httpx.Timeout(STREAM_SILENCE_S, connect=CONNECT_TIMEOUT_S)
        try:
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    self._checked(response)
                kind, data = "", ""
                for line in response.iter_lines():
                    field, _, value = line.partition(": ")
                    if field == "event":
                        kind = value
                    elif field == "data":
                        data = value
                    elif not line and kind:
                        yield self._frame(kind, data)
                        kind = ""
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    @staticmethod
    def _frame(kind: str, data: str) -> Mapping[str, Any] | None:
        if kind == "end":
            return None
        body: dict[str, Any] = json.loads(data)
        if kind == "problem":
            raise Refused(str(body.get("code")), str(body.get("detail")), int(body.get("status", 500)))
        return body


class _Patience:
    """Whether to try again: at once a named error when nobody ever answered, else for a while."""

    def __init__(self) -> None:
        self._has_worked = False
        self._last = time.monotonic()
        self._tries = 0

    def worked(self) -> None:
        self._has_worked, self._last, self._tries = True, time.monotonic(), 0

    def failed(self, error: CommandError) -> None:
        """Raises `error` when it is time to give up."""
        is_first = not self._has_worked and self._tries >= len(RETRY_S) - 2
        if not error.retryable or is_first or time.monotonic() - self._last > PATIENCE_S:
            raise error
        self.pause()

    def pause(self) -> None:
        time.sleep(RETRY_S[min(self._tries, len(RETRY_S) - 1)])
        self._tries += 1
