"""Folding a run's events into spans and marks, and drawing them."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from pointsman.cli.output import readable, to_ms
from pointsman.cli.runs import drawing, folding
from pointsman.cli.runs.show import now


def event(sequence: int, ms: int, type_: str, epoch: int | None = None, **data: Any) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{ms // 1000:02}.{ms % 1000:03}Z"
    out = {"sequence": sequence, "at": at, "type": type_, "version": 1, "data": data}
    return out if epoch is None else {**out, "epoch": epoch}


RETRIED = [
    event(1, 0, "RunStarted", workflow="w", input={"q": 1}),
    event(2, 0, "CallRequested", call="a#1", target="a", input="in"),
    event(3, 100, "AttemptFailed", call="a#1", attempt=1, failure={"kind": "timeout"}, retry_at=0),
    event(4, 300, "CallRetried", call="a#1", attempt=2),
    event(5, 400, "CallCompleted", call="a#1", output="out", attempt=2),
    event(6, 400, "RunCompleted", output="out"),
]


def test_attempts_and_the_wait_between_them() -> None:
    story = folding.build(RETRIED)
    (span,) = story.spans
    assert [(a.start - story.start, (a.end or 0) - story.start) for a in span.attempts] == [
        (0, 100),
        (300, 400),
    ]
    assert (span.outcome, span.output, span.input) == ("completed", "out", "in")
    bar = drawing.bar(span, story.start, story.last, width=8).plain
    assert bar == "▒▒····██"


def test_a_prefix_of_the_log_leaves_spans_open() -> None:
    for length in range(len(RETRIED) + 1):
        story = folding.build(RETRIED[:length])
        assert drawing.rows(story).row_count == len(story.rows())
    story = folding.build(RETRIED[:2])
    assert story.spans[0].outcome == "pending"
    assert drawing.bar(story.spans[0], story.start, story.last, width=4).plain[-1] == "▸"


def test_a_change_of_epoch_is_a_mark() -> None:
    story = folding.build([event(1, 0, "RunStarted", 1), event(2, 5, "CallCompleted", 3, call="x", output=1)])
    assert [(mark.kind, mark.text) for mark in story.marks] == [
        ("epoch", "claimed anew, by a coordinator: epoch 1 → 3")
    ]


def test_only_a_change_of_epoch_under_an_attempt_is_a_takeover() -> None:
    woken = folding.build(
        [event(1, 0, "SignalAwaited", 1, call="s#1", name="go"), event(2, 5, "SignalReceived", 2, name="go", mail=1)]
    )
    assert woken.marks[0].kind == "epoch"
    assert drawing.MARK_STYLES.get("epoch", "dim") == "dim"
    orphaned = folding.build(
        [
            event(1, 0, "CallRequested", 1, call="a#1", target="a"),
            event(2, 5, "CallCompleted", 2, call="a#1", output=1),
        ]
    )
    assert orphaned.marks[0].kind == "takeover"
    waited = folding.build([*RETRIED[:3], event(4, 300, "CallRetried", 2, call="a#1", attempt=2)])
    assert [mark.kind for mark in waited.marks] == []  # no epoch before
    parked = folding.build([{**row, "epoch": 1 + (row["sequence"] > 3)} for row in RETRIED])
    assert parked.marks[0].kind == "epoch"


def test_a_long_mark_leaves_the_columns_alone() -> None:
    long = "x" * 400
    story = folding.build([*RETRIED[:5], event(6, 400, "RunStopped", kind="code_changed", message=long)])
    console = Console(width=120)
    with console.capture() as captured:
        console.print(drawing.rows(story))
    lines = captured.get().splitlines()
    row = next(line for line in lines if "a#1" in line)
    assert row.split()[:7] == ["+0", "ms", "a#1", "a", "2", "400", "ms"]
    assert "completed" in row
    stopped = next(line for line in lines if "stopped" in line)
    assert stopped.index("──") >= row.index("completed")
    assert captured.get().count("x") < 80


def test_the_time_of_an_open_run_goes_on() -> None:
    start = to_ms(RETRIED[0]["at"])
    head = {"ended_at": None, "status": "parked"}
    moment = now(head)
    assert moment is not None
    assert moment > start
    assert now({**head, "status": "stopped"}) is None
    assert now({"ended_at": RETRIED[5]["at"], "status": "completed"}) is None
    story = folding.build([*RETRIED[:5], event(6, 400, "SignalAwaited", call="s#1", name="go")], start + 60_000)
    assert story.last - story.start == 60_000
    console = Console(width=160)
    with console.capture() as captured:
        console.print(drawing.rows(story))
    assert "59.6 s" in captured.get()
    assert drawing.bar(story.spans[0], story.start, story.last, width=8).plain == "█       "


@pytest.mark.parametrize(
    "end",
    [
        {"type_": "RunCompleted"},
        {"type_": "RunFailed", "failure": {"kind": "boom"}},
        {"type_": "RunWasCancelled", "reason": "enough"},
    ],
)
def test_nothing_is_pending_in_an_ended_run(end: dict[str, Any]) -> None:
    story = folding.build(
        [
            event(1, 0, "SignalAwaited", call="s#1", name="go"),
            event(2, 0, "TimerSet", call="t#1", due=9_000),
            event(3, 10, "TimerFired", call="other#1"),
            event(4, 20, **end),
        ]
    )
    assert [(span.outcome, (span.end or 0) - story.start) for span in story.spans] == [("left open", 20)] * 2
    assert all("▸" not in drawing.bar(span, story.start, story.last).plain for span in story.spans)


def test_signals_go_to_who_waits_else_to_who_asks_next() -> None:
    story = folding.build(
        [
            event(1, 0, "SignalReceived", name="go", key="1", mail=1, payload=1),
            event(2, 10, "SignalAwaited", call="s#1", name="go"),
            event(3, 20, "SignalAwaited", call="s#2", name="go"),
            event(4, 30, "SignalReceived", name="go", key="2", mail=2, payload=2),
        ]
    )
    assert [(s.call, s.outcome, (s.end or 0) - story.start) for s in story.spans] == [
        ("s#1", "received", 10), ("s#2", "received", 30)
    ]  # fmt: skip


def test_children_timers_reroutes_and_refusals() -> None:
    story = folding.build(
        [
            event(1, 0, "ChildStarted", call="c#1", run="r2", workflow="other", input=1),
            event(2, 0, "TimerSet", call="t#1", due=9),
            event(3, 0, "AgentRerouted", call="x#1", asked="x", agent="any", reason="no such agent"),
            event(4, 0, "CallRequested", call="x#1", target="any", input=1),
            event(5, 9, "TimerFired", call="t#1"),
            event(6, 9, "CallRefused", call="y#1", asked="y", failure={"kind": "unknown_agent"}),
            event(7, 9, "CallCancelled", call="x#1"),
            event(8, 9, "ChildEnded", call="c#1", mail=1, status="failed", failure={"kind": "boom"}),
        ]
    )
    assert {s.call: s.outcome for s in story.spans} == {
        "c#1": "failed", "t#1": "fired", "x#1": "given up", "y#1": "failed"
    }  # fmt: skip
    assert story.spans[2].notes == ["instead of x: no such agent"]


def test_an_event_from_the_future_is_shown_not_refused() -> None:
    story = folding.build([event(1, 0, "SomethingNew", a=1)])
    assert [mark.text for mark in story.marks] == ["SomethingNew"]


def test_an_event_line_says_what_failed() -> None:
    line = drawing.event_line(RETRIED[2], 100).plain
    assert line.split() == ["+100", "ms", "3", "AttemptFailed", "a#1", "timeout"]


def test_readable_keeps_the_lines_of_prompts() -> None:
    assert readable({"prompt": "one\ntwo", "n": 1, "list": [True, {"a": None}]}) == [
        "", "prompt: |", "  one", "  two", "n: 1", "list:", "  - true", "  -", "    a: null"
    ]  # fmt: skip


# -- the failure chain ----------------------------------------------------------------------------------------------

TIMEOUT = {"kind": "timeout", "message": "no result within 2 s", "retryable": True}
OPEN_BREAKER = {"kind": "breaker_open", "message": "12 of 20 calls failed", "retryable": False}
CHAIN = [
    event(1, 0, "RunStarted", workflow="support", input="t", budget={"usd": 0.1}),
    event(2, 0, "AgentSelected", call="select#1", agent="billing", reason="can do refunds", needs=["refunds"]),
    event(3, 0, "CallRequested", call="billing#1", target="billing", input="t", person="Refund?", default="sorry"),
    event(4, 0, "CallReserved", call="billing#1", attempt=1, amount={"usd_micros": 20_000, "calls": 1}),
    event(5, 2_000, "AttemptFailed", call="billing#1", attempt=1, failure=TIMEOUT, retry_at=0),
    event(6, 4_000, "CallRetried", call="billing#1", attempt=2),
    event(7, 4_000, "CallReserved", call="billing#1", attempt=2, amount={"usd_micros": 20_000, "calls": 1}),
    event(8, 6_000, "AttemptFailed", call="billing#1", attempt=2, failure=TIMEOUT, spent={"usd_micros": 5_000}),
    event(9, 6_000, "CallReassigned", call="billing#1", attempt=3, agent="generalist", failure=TIMEOUT,
          passed_over=["refunds: 12 of 20 calls failed"]),
    event(10, 6_000, "CallHeld", call="billing#1", failure=OPEN_BREAKER),
    event(11, 8_000, "CallReserved", call="billing#1", attempt=3, amount={"usd_micros": 10_000, "calls": 1}),
    event(12, 9_000, "EffectRecorded", call="billing#1", name="note", mail=1, value=1),
    event(13, 9_000, "CallOverspent", call="billing#1", attempt=3, agent="generalist",
          reserved={"usd_micros": 10_000, "calls": 1}, spent={"usd_micros": 30_000, "tokens": 1200, "calls": 1}),
    event(14, 9_000, "AttemptFailed", call="billing#1", attempt=3, failure={"kind": "refused", "message": "no"},
          spent={"usd_micros": 30_000, "tokens": 1200, "calls": 1}),
    event(15, 9_000, "HumanTaskOpened", call="billing#1", task="T1", question="Refund?",
          failure={"kind": "refused", "message": "no"}),
    event(16, 40_000, "HumanTaskAnswered", call="billing#1", task="T1", mail=2, output="yes", by="ann"),
    event(17, 40_000, "RunCompleted", output="yes"),
]  # fmt: skip


def drawn(what: Any, width: int = 400) -> list[str]:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(what)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_the_failure_chain_of_a_call_is_seen_at_a_glance() -> None:
    """What failed, why, who got it next, who solved it, and what it cost."""
    story = folding.build(CHAIN)
    assert drawn(drawing.rows(story)) == [
        "time call agent tries took cost outcome",
        "+0 ms ── selected billing: can do refunds",
        "+0 ms billing#1 billing → generalist → ann 3 40.0 s ▒·▒▒·▒······················ ≤ $0.055 · 1,200 tokens "
        "answered yes · timeout: no result within 2 s",
        "+40.0 s ── completed at event 17",
    ]
    assert drawn(drawing.steps(story)) == [
        "time call what happened to it",
        "+6.0 s billing#1 generalist gets it: billing failed: timeout: no result within 2 s; "
        "passed over refunds: 12 of 20 calls failed",
        "+6.0 s billing#1 waits for generalist, no try used up: breaker_open: 12 of 20 calls failed",
        "+9.0 s billing#1 “note” is done and recorded: no retry repeats it",
        "+9.0 s billing#1 generalist spent $0.03 · 1,200 tokens; the most that its card says is $0.01",
        "+9.0 s billing#1 a person is asked “Refund?” (pointsman inbox show T1): generalist failed, and there is no "
        "other agent: refused: no",
    ]
    head = {"id": "r", "workflow": "support", "version": 1, "status": "completed", "created_at": CHAIN[0]["at"],
            "ended_at": CHAIN[-1]["at"], "sequence": 17, "tenant": "default", "epoch": 1, "takeovers": 0,
            "wake_at": None, "attributes": {}, "output": "yes"}  # fmt: skip
    assert "spent ≤ $0.055 · 1,200 tokens of $0.10" in drawing.header(head, story)[1].plain


@pytest.mark.parametrize(
    ("events", "outcome", "tries"),
    [(2, "pending", 0), (3, "pending", 1), (5, "waits to try again", 1), (6, "pending", 2), (9, "pending", 3),
     (10, "held back", 2), (11, "pending", 3), (14, "pending", 3), (15, "with a person", 3), (16, "answered", 3)],
)  # fmt: skip
def test_a_call_says_where_in_its_chain_it_is(events: int, outcome: str, tries: int) -> None:
    story = folding.build(CHAIN[:events])
    assert [(span.outcome, span.tries) for span in story.spans] == ([(outcome, tries)] if events > 2 else [])
    assert drawing.rows(story).row_count == len(
        [row for row in story.rows() if not getattr(row, "call", "") or row in story.spans]
    )


def chain_of(*events: dict[str, Any]) -> Any:
    return folding.build([event(1, 0, "CallRequested", call="a#1", target="a", default="sorry"), *events])


def test_an_agent_that_could_not_take_it_was_not_tried() -> None:
    story = chain_of(
        event(2, 10, "CallReassigned", call="a#1", attempt=1, agent="b", failure=OPEN_BREAKER),
        event(3, 20, "CallCompleted", call="a#1", output="out"),
    )
    assert (story.spans[0].tries, story.spans[0].chain) == (1, ["a", "b"])
    assert story.marks[0].text == "b gets it: a can't take it: breaker_open: 12 of 20 calls failed"
    nobody = chain_of(
        event(2, 0, "CallHeld", call="a#1", failure=OPEN_BREAKER),
        event(3, 50_000, "CallFailed", call="a#1", failure=OPEN_BREAKER),
    )
    assert (nobody.spans[0].tries, nobody.spans[0].outcome) == (0, "failed")
    waited = chain_of(
        event(2, 0, "CallHeld", call="a#1", failure=OPEN_BREAKER), event(3, 10, "CallCompleted", call="a#1", output=1)
    )
    assert waited.spans[0].tries == 1
    asked = chain_of(event(2, 0, "HumanTaskOpened", call="a#1", task="T", question="?", failure=OPEN_BREAKER))
    assert (asked.spans[0].tries, asked.spans[0].outcome) == (0, "with a person")
    assert "a can't take it" in asked.marks[0].text


def test_a_call_that_goes_on_with_its_default_says_why() -> None:
    skipped = chain_of(
        event(2, 10, "AttemptFailed", call="a#1", attempt=1, failure=TIMEOUT),
        event(3, 10, "CallSkipped", call="a#1", output="sorry", failure=TIMEOUT),
    )
    assert (skipped.spans[0].outcome, skipped.spans[0].output, skipped.spans[0].tries) == (
        "default instead",
        "sorry",
        1,
    )
    assert [mark.text for mark in skipped.marks] == [
        "nobody could do it, so the run goes on with its default: timeout: no result within 2 s"
    ]
    refused = {"kind": "not_answered", "message": "ann refused: no time", "retryable": False}
    opened = event(2, 10, "HumanTaskOpened", call="a#1", task="T", question="?", failure=TIMEOUT)
    answer = event(3, 20, "HumanTaskAnswered", call="a#1", task="T", mail=1, failure=refused, by="ann")
    with_default = chain_of(opened, answer)
    assert with_default.spans[0].outcome == "default instead"
    assert with_default.marks[-1].text == "ann refused: no time; the run goes on with its default"
    without = folding.build([event(1, 0, "CallRequested", call="a#1", target="a"), opened, answer])
    assert (without.spans[0].outcome, without.spans[0].failure) == ("refused", refused)


def test_same_failures_in_a_row_are_said_once() -> None:
    failed = {"call": "a#1", "failure": TIMEOUT, "retry_at": 0}
    story = chain_of(
        event(2, 10, "AttemptFailed", attempt=1, **failed), event(3, 20, "CallRetried", call="a#1", attempt=2),
        event(4, 30, "AttemptFailed", attempt=2, **failed), event(5, 40, "CallRetried", call="a#1", attempt=3),
        event(6, 50, "CallCompleted", call="a#1", output="out"),
    )  # fmt: skip
    assert drawn(drawing.rows(story))[-1].endswith("completed out · 2 × timeout: no result within 2 s")


def test_an_answer_or_effect_that_comes_late_is_shown_too() -> None:
    story = folding.build(
        [
            event(1, 0, "HumanTaskAnswered", call="a#1", task="T", mail=1, output=1, by="ann"),
            event(2, 0, "EffectRecorded", call="a#1", name="note", mail=2),
        ]
    )
    assert [mark.text for mark in story.marks] == [
        "ann answered, but nobody waited for it any more", "a#1: “note” is recorded, after the call was over"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "cost"),
    [
        ([("CallCompleted", {"output": 1, "spent": {"usd_micros": 5}})], "$0.000005"),
        ([("CallCompleted", {"output": 1, "spent": {}})], "nothing"),
        ([("CallCompleted", {"output": 1})], "≤ $12.00 · 3 tokens"),
        ([("CallCancelled", {})], "≤ $12.00 · 3 tokens"),
        ([("RunCompleted", {})], "≤ $12.00 · 3 tokens"),
        ([("CallReserved", {"attempt": 1, "amount": {"usd_micros": 1}}), ("CallFailed", {"failure": TIMEOUT})],
         "≤ $12.000001 · 3 tokens"),
    ],
)  # fmt: skip
def test_what_was_set_aside_counts_in_full_when_its_end_is_unknown(
    ends: list[tuple[str, dict[str, Any]]], cost: str
) -> None:
    amount = {"usd_micros": 12_000_000, "tokens": 3, "calls": 1}
    reserved = event(2, 0, "CallReserved", call="a#1", attempt=1, amount=amount)
    story = chain_of(reserved, *(event(3 + n, 5, kind, call="a#1", **data) for n, (kind, data) in enumerate(ends)))
    assert str(story.spans[0].account.spent) == str(story.spent) == cost


def test_event_lines_say_who_and_how_much() -> None:
    lines = [" ".join(drawing.event_line(one, 0).plain.split()) for one in CHAIN]
    assert lines[8].endswith("CallReassigned billing#1 generalist (attempt 3) timeout: no result within 2 s; "
                             "passed over: refunds: 12 of 20 calls failed")  # fmt: skip
    assert lines[3].endswith("CallReserved billing#1 $0.02")
    assert lines[12].endswith("(attempt 3) $0.03 · 1,200 tokens")
    assert lines[14].endswith("HumanTaskOpened billing#1 T1 “Refund?”, because refused: no")
    later = {**CHAIN[4], "data": {**CHAIN[4]["data"], "retry_at": to_ms(CHAIN[4]["at"]) + 1_500}}
    assert drawing.event_line(later, 0).plain.endswith("timeout: no result within 2 s; again in 1.5 s")
    assert lines[15].endswith("HumanTaskAnswered billing#1 T1 ann yes")


def test_events_and_whom_they_trigger_are_marks() -> None:
    by = {"call": "event:ticket.seen/1", "event": "ticket.seen", "by": "a/1"}
    story = folding.build(
        [event(1, 0, "AgentsTriggered", **by, agents=["a", "b"]), event(2, 0, "AgentsTriggered", **by)]
    )
    assert [mark.text for mark in story.marks] == [
        "event ticket.seen, by a/1 → a, b", "event ticket.seen, by a/1 → no subscriber",
    ]  # fmt: skip


def test_each_write_of_the_state_is_a_mark_and_the_last_stands_above() -> None:
    story = folding.build([
        event(1, 0, "RunStarted", workflow="w", input=None),
        event(2, 0, "StateSet", call="set:state#1", state={"status": "begun"}),
        event(3, 5, "StateSet", call="set:state#2", pieces=[[3000]], digest="d"),
    ])  # fmt: skip
    assert [(mark.kind, mark.text) for mark in story.marks] == [
        ("state", 'state: {"status": "begun"}'), ("state", "state: a large value (--inputs has it)"),
    ]  # fmt: skip
    stands = {"run": "r", "version": 2, "value": {"status": "begun"}, "sequence": 2}
    assert drawing.state(stands).plain == 'state v2 {"status": "begun"}  (event 2)'
