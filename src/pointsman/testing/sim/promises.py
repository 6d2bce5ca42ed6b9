"""What clients were told holds: a checker of its own, because it reads answers as well as logs."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.coordinator.driving.mail import CANCEL_KEY, answer_key, signal_key
from pointsman.kernel import events as ev
from pointsman.kernel.history import whole_input
from pointsman.kernel.upcast import read_event
from pointsman.testing.sim.evidence import Ack, Evidence


def acked_is_durable(evidence: Evidence) -> Iterator[str]:
    """What a client was told is in the log: run, mail, end before the refusal, result, prefix, redrive."""
    for ack in evidence.acks:
        if ack.answer.startswith("error"):
            yield f"{ack.what} of {ack.run}: {ack.answer}"
        elif ack.run:
            yield from _stands(evidence, ack)


def _stands(evidence: Evidence, ack: Ack) -> Iterator[str]:
    if ack.run not in evidence.heads:
        yield f"{ack.what} of {ack.run} was answered {ack.answer!r}, and there is no such run"
    elif ack.answer == "unknown":
        if not any(one.head.id == ack.run and one.position <= ack.position for one in evidence.erased):
            yield f"{ack.what} of {ack.run}: {ack.answer}"
    elif ack.what == "start":
        yield from _start_stands(evidence, ack)
    elif ack.what in ("signal", "cancel", "answer"):
        yield from _mail_is_kept(evidence, ack)
    elif ack.what == "redrive":
        yield from _redrive_stands(evidence, ack)
    elif ack.what == "result":
        yield from _result_stands(evidence, ack)
    elif ack.what == "read":
        stream = tuple((row.sequence, row.type) for row in evidence.streams[ack.run])
        if ack.run not in evidence.damaged and stream[: len(ack.seen)] != ack.seen:
            yield f"{ack.run}: a client read {ack.seen}, which is no prefix of its stream"


def _start_stands(evidence: Evidence, ack: Ack) -> Iterator[str]:
    """The run has the input that its starter gave, or he was told that it has another."""
    started = evidence.events(ack.run)[0]
    same = isinstance(started, ev.RunStarted) and input_of(evidence, ack.run) == ack.key.encode()
    if same != (ack.answer == "accepted"):
        yield f"{ack.run}: a start with {ack.key} was {ack.answer}, and the log begins with {started}"


def input_of(evidence: Evidence, run: str) -> bytes:
    """The input of a run, as it was sent."""
    first = evidence.streams[run][0]
    started = read_event(first)
    assert isinstance(started, ev.RunStarted)
    return whole_input(started, first, lambda _: first.body)


def _mail_is_kept(evidence: Evidence, ack: Ack) -> Iterator[str]:
    key = {"cancel": CANCEL_KEY, "signal": signal_key(ack.key), "answer": answer_key(ack.key)}[ack.what]
    is_kept = any(mail.key == key for mail in evidence.mails.get(ack.run, ()))
    if ack.answer in ("accepted", "duplicate") and not is_kept:
        yield f"{ack.run}: {ack.what} {ack.key} was {ack.answer}, and is not in its mailbox"
    if ack.answer == "ended":
        ends = list(_ended(evidence, ack.run))
        was_over = any(begin < ack.position and (until is None or until >= ack.asked) for begin, until in ends)
        was_redriven = any(until is not None for _, until in ends)  # then the same mail may have come again
        if not was_over or (is_kept and not was_redriven):
            yield f"{ack.run}: {ack.what} {ack.key} was refused because the run had ended, and it had not"


def _ended(evidence: Evidence, run: str) -> Iterator[tuple[int, int | None]]:
    """From which place of the feed to which a run had ended; None: for ever."""
    events = evidence.events(run)
    for sequence, event in enumerate(events, 1):
        if isinstance(event, ev.TERMINAL):
            is_last = sequence == len(events)
            yield evidence.place(run, sequence), None if is_last else evidence.place(run, sequence + 1)


def _redrive_stands(evidence: Evidence, ack: Ack) -> Iterator[str]:
    """Who was told that he redrove a run did, and nobody else; who was told that another had, finds that one."""
    if ack.answer.startswith("refused"):
        return
    number, by = ack.answer.split()
    for sequence, event in enumerate(evidence.events(ack.run), 1):
        is_it = isinstance(event, ev.RunRedriven) and (str(event.number), event.by) == (number, by)
        if is_it and evidence.place(ack.run, sequence) < ack.position:
            return
    yield f"{ack.run}: {ack.key} was told of its redrive {number} by {by}, and no event says so"


def _result_stands(evidence: Evidence, ack: Ack) -> Iterator[str]:
    ends = [_said(event) for event in evidence.events(ack.run) if isinstance(event, ev.TERMINAL)]
    if ack.answer not in ends:
        yield f"{ack.run}: a client was told {ack.answer!r}, the log says {ends}"


def _said(end: ev.Event) -> str:
    match end:
        case ev.RunCompleted(output=output):
            return f"completed {bytes(output).decode()}"
        case ev.RunFailed(failure=failure):
            return f"failed {failure.kind}"
    return "cancelled cancelled"
