"""What became of a ticket, read from its run's events: not from what agents, clients or coordinators believe.

Pure. Times in the log are milliseconds by the database's clock, which here is also the killer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from benchmarks.triage.agents import GENERALIST, STATIC, TRIAGE_AGENTS
from benchmarks.triage.plan import KINDS, Plan


class Seen(msgspec.Struct, frozen=True):
    """An event of a run. `body` is its JSON."""

    at: int
    epoch: int
    type: str
    body: dict[str, Any]


class Account(msgspec.Struct):
    """Attributes:
    status: answered, static, with_person (a question is open), failed (the run says so), lost (nobody has it).
    saved_by: the last thing that was needed: retry, fallback or person; "" when the first attempts went well, or when
        nothing saved it.
    agent_s: what the plan gives the attempts that were made, the stretches that a kill cut off included.
    waits_s: pauses before retries, and what a call was held back.
    named: the specialist that triage named; "" when it did not.
    open_ms: since when a person is asked.
    failures: the kinds of all that failed on the way.
    """

    status: str = "lost"
    saved_by: str = ""
    agent_s: float = 0.0
    waits_s: float = 0.0
    named: str = ""
    open_ms: int | None = None
    failures: list[str] = []


class Attempt(msgspec.Struct):
    agent: str
    number: int
    began_ms: int
    epoch: int
    is_under_way: bool = True
    held_ms: int | None = None


class Ledger:
    """The account of one ticket. `kill_ms`: when its coordinator was killed, if it was."""

    def __init__(self, plan: Plan, row: int, kill_ms: float | None = None) -> None:
        self.account = Account()
        self._plan = plan
        self._row = row
        self._kill_ms = kill_ms
        self._attempts: dict[str, Attempt] = {}
        self._saved: set[str] = set()

    def read(self, events: Iterable[Seen]) -> Account:
        """All of the run's events, in order."""
        for event in events:
            self._take(event)
        account = self.account
        if account.status == "lost" and account.open_ms is not None:
            account.status = "with_person"
        if account.status in ("answered", "with_person"):
            account.saved_by = next((way for way in ("person", "fallback", "retry") if way in self._saved), "")
        return account

    def _take(self, event: Seen) -> None:
        body, account = event.body, self.account
        match event.type:
            case "CallRequested":
                self._attempts[body["call"]] = Attempt(body["target"], 1, event.at, event.epoch)
            case "AttemptFailed" | "CallCompleted" | "CallFailed" | "CallSkipped" | "HumanTaskOpened":
                self._ended(event)
            case "CallRetried":
                attempt = self._resumed(event)
                self._begin(event, attempt.agent)
                self._saved.add("retry")
            case "CallReassigned":
                self._ended(event)
                self._begin(event, body["agent"])
                self._saved.add("fallback")
            case "CallHeld":
                self._attempts[body["call"]].held_ms = event.at
            case "AgentSelected":
                if body["agent"] == GENERALIST:  # triage never names it: the rule did, for want of another
                    self._saved.add("fallback")
            case "AgentRerouted":
                self._saved.add("fallback")
            case "HumanTaskAnswered":
                account.open_ms = None
            case "RunCompleted":
                account.status = "static" if body["output"]["agent"] == STATIC else "answered"
            case "RunFailed" | "RunWasCancelled":
                account.status = "failed"
            case _:
                pass

    def _begin(self, event: Seen, agent: str) -> None:
        self._attempts[event.body["call"]] = Attempt(agent, event.body["attempt"], event.at, event.epoch)

    def _resumed(self, event: Seen) -> Attempt:
        attempt = self._attempts[event.body["call"]]
        if attempt.held_ms is not None:
            self.account.waits_s += (event.at - attempt.held_ms) / 1000
            attempt.held_ms = None
        return attempt

    def _ended(self, event: Seen) -> None:
        """An attempt is over, or the call whose last attempt was over before."""
        body, account = event.body, self.account
        attempt = self._attempts[body["call"]]
        failure = body.get("failure")
        if failure is not None:
            account.failures.append(failure["kind"])
        if event.type == "HumanTaskOpened":
            account.open_ms = event.at
            self._saved.add("person")
        if event.type == "AttemptFailed" and "retry_at" in body:
            account.waits_s += (body["retry_at"] - event.at) / 1000
        if event.type == "CallCompleted" and attempt.agent in TRIAGE_AGENTS:
            account.named = body["output"]
        seconds = self._seconds(attempt, failure["kind"] if failure is not None else None)
        if attempt.held_ms is not None:
            account.waits_s += max((event.at - attempt.held_ms) / 1000 - seconds, 0.0)
            attempt.held_ms = None
        if attempt.is_under_way:
            account.agent_s += seconds + self._cut_off(attempt, event)
            attempt.is_under_way = False

    def _seconds(self, attempt: Attempt, kind: str | None) -> float:
        """What the plan gives the attempt; none when it was held back, or met an agent that is down."""
        if not attempt.is_under_way or not (kind is None or kind in KINDS):
            return 0.0
        return self._plan.fate(self._row, attempt.agent, attempt.number).seconds

    def _cut_off(self, attempt: Attempt, event: Seen) -> float:
        """What the agent had already spent on an attempt that was repeated because its coordinator was killed. Not less
        because the repetition found the agent down."""
        if self._kill_ms is None or event.epoch <= attempt.epoch or attempt.began_ms > self._kill_ms:
            return 0.0
        planned = self._plan.fate(self._row, attempt.agent, attempt.number).seconds
        return min((self._kill_ms - attempt.began_ms) / 1000, planned)
