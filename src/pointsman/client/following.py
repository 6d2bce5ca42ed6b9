"""A run's event stream, line by line and across connections; and when a wait for its result is over.

Must not know sockets: a client gives it what came, and asks what to send.
"""

from __future__ import annotations

import time

import msgspec

from pointsman.api.events import STILL_HERE
from pointsman.api.views import EventBody, ResultBody
from pointsman.client import asks
from pointsman.client.asks import Ask, path
from pointsman.client.errors import DeadlinePassed, from_problem
from pointsman.kernel.errors import PointsmanError
from pointsman.ports.event_log import ENDED_STATUSES

SILENCE_S = 45.0
"""A live stream says something every 15 s; three times that without a word, and it is taken for dead."""
POLLS_S = (0.0, 1.0, 5.0, 20.0)
"""How long each question for a result waits. A run that is held back does not answer before: hence the short ones."""
HELD_STATUSES = ("stopped", "quarantined")
"""A run that nobody drives until somebody does something about it."""

_decoder = msgspec.json.Decoder(EventBody)


class Following:
    """Where the reader of a run's events is.

    Attributes:
        after: the last sequence that came.
        goes_on: the line before said that the stream works: an event, or a sign of life.
        has_ended: the run's last event has come.
    """

    def __init__(self, run: str, after: int) -> None:
        self.path = path("runs", run, "stream")
        self.after = after
        self.goes_on = False
        self.has_ended = False
        self._kind = self._data = ""

    def headers(self) -> dict[str, str]:
        """Of a request for the rest; forgets what came in part."""
        self._kind = self._data = ""
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self.after)}

    def read(self, line: str) -> EventBody | None:
        """Take one line; an event when it was whole, and new. Raises: the problem that the stream ends with."""
        self.goes_on = line == STILL_HERE
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data = value
        elif not line and self._kind:
            kind, self._kind = self._kind, ""
            return self._frame(kind)
        return None

    def _frame(self, kind: str) -> EventBody | None:
        if kind == "end":
            self.has_ended = True
            return None
        if kind == "problem":
            problem = msgspec.json.decode(self._data)
            raise from_problem(problem, int(problem.get("status", 500)))
        event = _decoder.decode(self._data)
        if event.sequence <= self.after:
            return None
        self.after = event.sequence
        self.goes_on = True
        return event


class Polling:
    """A wait for a run's result.

    Args:
        timeout_s: None: for ever.
    """

    def __init__(self, run: str, timeout_s: float | None) -> None:
        self._run = run
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._polls = 0

    def ask(self) -> Ask[ResultBody]:
        """The next question."""
        poll_s = POLLS_S[min(self._polls, len(POLLS_S) - 1)]
        self._polls += 1
        left_s = poll_s if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)
        return asks.result(self._run, min(poll_s, left_s), until=self._deadline)

    def check(self, error: PointsmanError) -> None:
        """There was no answer. Raises DeadlinePassed: one might still have come, and the wait for it is over."""
        if error.retryable and self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlinePassed(
                f"nobody said within {self._timeout_s:g} s what became of run {self._run} ({error}); ask again"
            ) from error

    def is_over(self, answer: ResultBody) -> bool:
        """Raises: DeadlinePassed."""
        if answer.status in ENDED_STATUSES + HELD_STATUSES:
            return True
        if self._deadline is not None and time.monotonic() >= self._deadline:
            then = answer.stranded or "it goes on, ask again"
            raise DeadlinePassed(f"run {self._run} is {answer.status} after {self._timeout_s:g} s; {then}")
        return False
