"""What became of a ticket, read from events written down by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.triage.ledger import Account, Ledger, Seen
from benchmarks.triage.plan import Plan

PLAN = Plan()
ROW = 5
REPLY = {"row": ROW, "agent": "cash", "text": "so"}


def seconds(agent: str, attempt: int = 1) -> float:
    return PLAN.fate(ROW, agent, attempt).seconds


def failure(kind: str) -> dict[str, Any]:
    return {"kind": kind}


class Story:
    """Events of one run, a second apart."""

    def __init__(self) -> None:
        self.events: list[Seen] = []
        self.at = 1_000_000
        self.epoch = 1

    def add(self, type_: str, *, after_ms: int = 1000, **body: Any) -> Story:
        self.at += after_ms
        self.events.append(Seen(self.at, self.epoch, type_, body))
        return self

    def triaged(self) -> Story:
        self.add("RunStarted").add("CallRequested", call="triage#1", target="triage")
        self.add("CallCompleted", call="triage#1", output="cash")
        self.add("AgentSelected", call="select#1", agent="cash", reason="triage")
        return self.add("CallRequested", call="cash#1", target="cash")

    def answered(self, **reply: Any) -> Story:
        self.add("CallCompleted", call="cash#1", output={**REPLY, **reply})
        return self.add("RunCompleted", output={**REPLY, **reply})

    def account(self, kill_ms: float | None = None) -> Account:
        return Ledger(PLAN, ROW, kill_ms).read(self.events)


def test_two_calls_that_go_well() -> None:
    account = Story().triaged().answered().account()
    assert (account.status, account.saved_by, account.named) == ("answered", "", "cash")
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("cash"))
    assert account.waits_s == 0


def test_a_retry_saves_a_ticket_and_its_pause_is_no_overhead() -> None:
    story = Story().triaged()
    story.add("AttemptFailed", call="cash#1", attempt=1, failure=failure("exception"), retry_at=story.at + 1250)
    account = story.add("CallRetried", call="cash#1", attempt=2).answered().account()
    assert (account.status, account.saved_by) == ("answered", "retry")
    assert account.waits_s == 0.25
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("cash") + seconds("cash", 2))
    assert account.failures == ["exception"]


def test_another_agent_saves_a_ticket() -> None:
    story = Story().triaged()
    story.add("AttemptFailed", call="cash#1", attempt=1, failure=failure("refused"))
    story.add("CallReassigned", call="cash#1", attempt=2, agent="generalist", failure=failure("refused"))
    account = story.answered(agent="generalist").account()
    assert (account.status, account.saved_by) == ("answered", "fallback")
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("cash") + seconds("generalist", 2))


def test_an_attempt_that_ends_in_a_reassignment_is_counted_once() -> None:
    """Whether the engine writes AttemptFailed before it or not."""
    story = Story().triaged()
    story.add("CallReassigned", call="cash#1", attempt=2, agent="generalist", failure=failure("refused"))
    account = story.answered(agent="generalist").account()
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("cash") + seconds("generalist", 2))


def test_a_call_that_is_held_back_spends_no_agent_time() -> None:
    story = Story().triaged()
    story.add("CallHeld", call="cash#1", failure=failure("breaker_open"))
    story.add("CallReassigned", call="cash#1", attempt=1, agent="generalist", failure=failure("breaker_open"))
    account = story.answered(agent="generalist").account()
    assert account.saved_by == "fallback"
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("generalist"))
    assert account.waits_s == 1.0


def test_an_agent_that_is_down_takes_no_time() -> None:
    story = Story().triaged()
    story.add("AttemptFailed", call="cash#1", attempt=1, failure=failure("unreachable"))
    story.add("CallReassigned", call="cash#1", attempt=2, agent="generalist", failure=failure("unreachable"))
    account = story.answered(agent="generalist").account()
    assert account.agent_s == pytest.approx(seconds("triage") + seconds("generalist", 2))


def test_the_generalist_by_rule_counts_as_a_fallback() -> None:
    story = Story().add("RunStarted").add("CallRequested", call="triage#1", target="triage")
    story.add("CallFailed", call="triage#1", failure=failure("refused"), attempt=1)
    story.add("AgentSelected", call="select#1", agent="generalist", reason="triage failed")
    story.add("CallRequested", call="cash#1", target="generalist")
    account = story.answered(agent="generalist").account()
    assert (account.status, account.saved_by, account.named) == ("answered", "fallback", "")


def test_a_person_who_is_asked_and_has_not_answered() -> None:
    story = Story().triaged().add("AttemptFailed", call="cash#1", attempt=1, failure=failure("refused"))
    story.add("HumanTaskOpened", call="cash#1", task="t", question="?", failure=failure("refused"))
    account = story.account()
    assert (account.status, account.saved_by, account.open_ms) == ("with_person", "person", story.at)


def test_a_persons_answer_ends_it() -> None:
    story = Story().triaged().add("AttemptFailed", call="cash#1", attempt=1, failure=failure("refused"))
    story.add("HumanTaskOpened", call="cash#1", task="t", question="?", failure=failure("refused"))
    story.add("HumanTaskAnswered", call="cash#1", task="t", mail=1, output=REPLY)
    account = story.add("RunCompleted", output=REPLY).account()
    assert (account.status, account.saved_by, account.open_ms) == ("answered", "person", None)


@pytest.mark.parametrize(
    ("last", "body", "status"),
    [
        ("RunFailed", {"failure": failure("refused")}, "failed"),
        ("RunWasCancelled", {}, "failed"),
        ("RunCompleted", {"output": {**REPLY, "agent": "static"}}, "static"),
        ("RunCompleted", {"output": REPLY}, "answered"),
    ],
)
def test_every_end_has_its_name(last: str, body: dict[str, Any], status: str) -> None:
    assert Story().triaged().add(last, **body).account().status == status


def test_a_run_without_an_end_or_without_events_is_lost() -> None:
    assert Story().triaged().account().status == "lost"
    assert Story().account().status == "lost"


def killed(before_kill_ms: int) -> Account:
    """The coordinator is killed so long after the specialist's call began, and another one ends that call."""
    story = Story().triaged()
    kill_ms = story.at + before_kill_ms
    story.epoch = 2
    return story.answered().account(kill_ms)


def test_what_a_kill_cut_off_is_agent_time() -> None:
    usual = seconds("triage") + seconds("cash")
    assert killed(100).agent_s == pytest.approx(usual + 0.1)
    assert killed(900_000).agent_s == pytest.approx(usual + seconds("cash"))  # it had ended, and was not yet recorded
    assert killed(-500).agent_s == pytest.approx(usual)  # the call began after the kill


def test_what_was_cut_off_counts_when_the_repetition_finds_the_agent_down() -> None:
    story = Story().triaged()
    kill_ms = story.at + 100
    story.epoch = 2
    story.add("AttemptFailed", call="cash#1", attempt=1, failure=failure("unreachable"))
    story.add("CallReassigned", call="cash#1", attempt=2, agent="generalist", failure=failure("unreachable"))
    account = story.answered().account(kill_ms)
    assert account.agent_s == pytest.approx(seconds("triage") + 0.1 + seconds("generalist", 2))


def test_an_attempt_of_one_coordinator_is_never_cut_off() -> None:
    story = Story().triaged()
    assert story.answered().account(story.at - 1000).agent_s == pytest.approx(seconds("triage") + seconds("cash"))
