"""What clients were told holds: a checker of its own, because it reads answers as well as logs."""

from __future__ import annotations

from collections.abc import Iterator

from pointsman.coordinator.mail import CANCEL_KEY, answer_key, signal_key
from pointsman.kernel import events as ev
from pointsman.kernel.history import whole_input
from pointsman.kernel.upcast import read_event
from pointsman.testing.sim.evidence import Ack, Evidence


def acked_is_durable(evidence: Evidence) -> Iterator[str]:
    """What a client was told is in the log: run, mail, end before the refusal, result, prefix."""
    for ack in evidence.acks:
        if ack.run not in evidence.heads:
            yield f"{ack.what} of {ack.run} was answered {ack.answer!r}, and there is no such run"
        elif ack.answer.startswith(("error", "unknown")):
            yield f"{ack.what} of {ack.run}: {ack.answer}"
        elif ack.what == "start":
            yield from _start_stands(evidence, ack)
        elif ack.what in ("signal", "cancel", "answer"):
            yield from _mail_is_kept(evidence, ack)
        elif ack.what == "result":
            yield from _result_stands(evidence, ack)
        elif ack.what == "read":
            stream = tuple((row.sequence, row.type) for row in evidence.streams[ack.run])
            if stream[: len(ack.seen)] != ack.seen:
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
        last = evidence.place(ack.run, len(evidence.streams[ack.run]))
        if is_kept or not isinstance(evidence.events(ack.run)[-1], ev.TERMINAL) or last >= ack.position:
            yield f"{ack.run}: {ack.what} {ack.key} was refused because the run had ended, and it had not"


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
