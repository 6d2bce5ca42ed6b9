"""Each checker can fail: a sound log by hand, and for each rule a log that breaks it."""

import logging
import random
from dataclasses import replace

import msgspec
import pytest

from pointsman.kernel import events as ev
from pointsman.kernel.checksum import beginning, following
from pointsman.kernel.policy.amounts import Amount
from pointsman.ports.event_log import Head, NewRun
from pointsman.ports.mailbox import Mail
from pointsman.stores.memory.database import HeadRow
from pointsman.testing.sim import checkers
from pointsman.testing.sim.answers import one_answer_a_task
from pointsman.testing.sim.databases import Erased
from pointsman.testing.sim.evidence import Ack, Evidence
from pointsman.testing.sim.journal import Effect, Invocation
from pointsman.testing.sim.replayed import replay_differs, replays_identically
from pointsman.testing.sim.report import listening
from pointsman.testing.sim.workload import OWN
from pointsman.testing.sim.world import World, simulate

STARTED = ev.RunStarted(workflow="chain", workflow_version=1, digest="d", seed="s", input=msgspec.Raw(b"1"))
REQUESTED = ev.CallRequested(call="a#1", target="a")
COMPLETED = ev.CallCompleted(call="a#1", output=msgspec.Raw(b'"x"'))
SIGNAL = ev.SignalReceived(name="go", key="signal:k", mail=1)
SIGNAL_AGAIN = ev.SignalReceived(name="go", key="signal:k", mail=2)
ENDED = ev.RunCompleted(output=msgspec.Raw(b"1"))
SOUND = (STARTED, REQUESTED, COMPLETED, SIGNAL, ENDED)


def head_of(run, status, sequence, *, epoch=1, parent=None):
    return Head(
        id=run, workflow="chain", version=1, build="", status=status, sequence=sequence, epoch=epoch, owner=None,
        mail=1, folded=1, takeovers=0, wake_at=None, tenant="default", attributes={}, digest="d", bucket=0,
        parent=parent, created_at=0, updated_at=0, ended_at=None,
    )  # fmt: skip


def log(*events, epochs=None, status="completed", mails=(1,), **more):
    """The evidence of one run, `r`, whose events came 100 ms apart."""
    rows, checksum = [], beginning("r")
    for n, event in enumerate(events, 1):
        name, body, epoch = type(event).__name__, ev.encode_event(event), (epochs or [1] * len(events))[n - 1]
        checksum = following(checksum, n, 100 * n, name, 1, epoch, body)
        rows.append(ev.Recorded(n, 100 * n, name, 1, body, epoch, checksum))
    rows = tuple(rows)
    letters = [
        Mail(number=n, key="signal:k" if n == 1 else f"signal:k{n}", kind="signal", body=b"", at=0) for n in mails
    ]
    return Evidence(
        streams={"r": rows}, heads={"r": head_of("r", status, len(rows))}, mails={"r": letters},
        feed=[("r", row.sequence, row.at) for row in rows], **more,
    )  # fmt: skip


def made(**fields):
    base = Invocation("r", "a#1", 1, "r/1/a#1", 1, "n0.1", 0.25, 2, False, 1)
    return base._replace(**fields)


def acked(what, answer, **fields):
    return log(*SOUND, acks=[Ack(what, "r", answer, position=9, **fields)])


def test_a_sound_log_passes():
    acks = [
        Ack("start", "r", "accepted", 1, "1"),
        Ack("start", "r", "conflict", 1, "2"),
        Ack("signal", "r", "accepted", 3, "k"),
        Ack("signal", "r", "ended", 5, "late"),
        Ack("cancel", "r", "ended", 5),
        Ack("result", "r", "completed 1", 5),
        Ack("read", "r", "accepted", 2, seen=((1, "RunStarted"), (2, "CallRequested"))),
    ]
    evidence = log(*SOUND, acks=acks, invocations=[made()])
    assert [what for checker in checkers.CHECKERS for what in checker(evidence)] == []


TIMER = ev.TimerSet(call="sleep#1", due=250)
FIRED = ev.TimerFired(call="sleep#1")
FAILED = ev.AttemptFailed(call="a#1", attempt=1, failure=ev.Failure("x"), retry_at=1_000)
RETRIED = ev.CallRetried(call="a#1", attempt=2)
LOST = ev.CallFailed(call="a#1", failure=ev.Failure("x"))
FAILED_RUN = ev.RunFailed(call="a#1", failure=ev.Failure("x"))
REDRIVEN = ev.RunRedriven(number=1, after=2, calls=("a#1",), by="o1")
STOPPED = ev.RunStopped(kind="poisoned_run", message="it ends its owners", build="")
RESERVED = ev.CallReserved(call="a#1", attempt=1, amount=Amount(calls=1))
RESTARTED = ev.RunRestarted(generation=2, workflow="chain", seed="t", started_at=1)
AGAIN = (STARTED, REQUESTED, LOST, FAILED_RUN, REDRIVEN, COMPLETED, SIGNAL, ENDED)
"""A run that failed, was redriven, and ended."""
CHILD = ev.ChildStarted(call="c#1", run="r~c", workflow="nap", workflow_version=1, digest="d")


def test_a_sound_log_with_a_redrive_and_generations_passes():
    acks = [
        Ack("result", "r", "failed x", 4),
        Ack("result", "r", "completed 1", 8),
        Ack("signal", "r", "ended", 4, "k", asked=2),
        Ack("redrive", "r", "1 o1", 5, "o1"),
        Ack("redrive", "r", "1 o1", 9, "o2"),
        Ack("redrive", "r", "refused: not_redrivable", 9, "o3"),
    ]
    first = made(attempt=1)
    second = made(attempt=2, position=5, epoch=2, epoch_now=2)
    evidence = log(*AGAIN, epochs=[1, 1, 1, 1, 2, 2, 2, 2], acks=acks, invocations=[first, second])
    evidence.heads["r"] = head_of("r", "completed", 8, epoch=2)
    assert [what for checker in checkers.CHECKERS for what in checker(evidence)] == []
    later = ev.CallRequested(call="a#1@2", target="a")
    done = ev.CallCompleted(call="a#1@2", output=msgspec.Raw(b'"x"'))
    evidence = log(STARTED, REQUESTED, COMPLETED, RESTARTED, later, done, SIGNAL, ENDED,
                   invocations=[made(), made(call="a#1@2", key="r/2/a#1@2", position=5)])  # fmt: skip
    evidence.heads["r"] = msgspec.structs.replace(evidence.heads["r"], base=4, generation=2)
    assert [what for checker in checkers.CHECKERS for what in checker(evidence)] == []


def people(*said, events):
    """The mail of one task, in its order, and the events that it became."""
    letters = [
        Mail(number=n, key=f"answer:t{n}", kind=kind, body=b'{"call":"a#1","task":"t","by":"ann"}', at=0)
        for n, kind in enumerate(said, 1)
    ]
    return replace(log(STARTED, *events, ENDED), mails={"r": letters})


ANSWERED = ev.HumanTaskAnswered(call="a#1", task="t", mail=1, by="ann")
EXPIRED = ev.HumanTaskExpired(call="a#1", task="t", mail=2)


def test_one_answer_of_a_person_passes():
    assert list(one_answer_a_task(people("answer", "expiry", events=[ANSWERED]))) == []


def erased(ended_at, parent_ended_at=None):
    """Run `r` was deleted, with a parent or without."""
    new = NewRun(workflow="chain", version=1, build="", bucket=0, digest="d")
    head, parent = (HeadRow("r", new, b"{}", "", 0, 1, 0, 0, ended_at=at).head() for at in (ended_at, parent_ended_at))
    return Erased(head, parent if parent_ended_at is not None else None, 80, 5)


BAD = [
    (one_answer_a_task, people("answer", "expiry", events=[EXPIRED])),
    (one_answer_a_task, people("answer", "expiry", events=[ANSWERED, EXPIRED])),
    (one_answer_a_task, people("answer", events=[ANSWERED, ANSWERED])),
    (one_answer_a_task, people(events=[ANSWERED])),
    (checkers.one_end_and_it_is_last, log(STARTED, REQUESTED, COMPLETED, ENDED, REDRIVEN, ENDED)),
    (checkers.one_end_and_it_is_last, log(STARTED, REQUESTED, LOST, REDRIVEN, COMPLETED, ENDED)),
    (checkers.one_end_and_it_is_last, log(STARTED, REQUESTED, LOST, FAILED_RUN, COMPLETED, ENDED)),
    (checkers.one_end_and_it_is_last, log(STARTED, REQUESTED, LOST, FAILED_RUN, REDRIVEN, FAILED_RUN)),
    (checkers.one_outcome_a_call, log(*AGAIN[:6], COMPLETED, ENDED)),
    (checkers.requests_come_first, log(*AGAIN, invocations=[made(attempt=2, position=3)])),
    (checkers.nothing_is_called_in_vain, log(*AGAIN, invocations=[made(attempt=2, position=7)])),
    (checkers.generations_are_counted, log(STARTED, RESTARTED, ENDED)),
    (checkers.acked_is_durable, log(*SOUND, acks=[Ack("start", "lost", "accepted", 1, "1")])),
    (checkers.acked_is_durable, acked("start", "accepted", key="2")),
    (checkers.acked_is_durable, acked("start", "conflict", key="1")),
    (checkers.acked_is_durable, acked("read", "unknown")),
    (checkers.acked_is_durable, acked("signal", "accepted", key="other")),
    (checkers.acked_is_durable, acked("cancel", "accepted")),
    (checkers.acked_is_durable, acked("signal", "ended", key="k")),
    (checkers.acked_is_durable, log(*SOUND, acks=[Ack("signal", "r", "ended", 4, "early")])),
    (checkers.acked_is_durable, log(*SOUND[:-1], status="running", acks=[Ack("cancel", "r", "ended", 9)])),
    (checkers.acked_is_durable, acked("result", "completed 2")),
    (checkers.acked_is_durable, log(*AGAIN, acks=[Ack("signal", "r", "ended", 3, "late", asked=2)])),
    (checkers.acked_is_durable, log(*AGAIN, acks=[Ack("signal", "r", "ended", 7, "late", asked=6)])),
    (checkers.acked_is_durable, log(*AGAIN, acks=[Ack("redrive", "r", "1 o2", 9, "o2")])),
    (checkers.acked_is_durable, log(*AGAIN, acks=[Ack("redrive", "r", "2 o1", 9, "o1")])),
    (checkers.acked_is_durable, log(*AGAIN, acks=[Ack("redrive", "r", "1 o1", 4, "o1")])),
    (checkers.acked_is_durable, log(*SOUND, acks=[Ack("look", "", "error internal: oh", 9)])),
    (checkers.only_what_harms_is_held_back, log(STARTED, STOPPED, ENDED, epochs=[1, 2, 4], takeovers_max=2)),
    (checkers.only_what_harms_is_held_back, log(STARTED, STOPPED, ENDED, damaged={"r": 1}, takeovers_max=2)),
    (checkers.only_what_harms_is_held_back, log(STARTED, ev.LogRepaired(first=2, last=3, reason="bad"), ENDED)),
    (checkers.damage_is_found, log(*SOUND, damaged={"r": 3})),
    (checkers.only_the_past_is_deleted, log(*SOUND, erased=[erased(ended_at=70)], aged_at=60)),
    (checkers.only_the_past_is_deleted, log(*SOUND, erased=[erased(ended_at=None)], aged_at=60)),
    (checkers.only_the_past_is_deleted, log(*SOUND, erased=[erased(ended_at=50, parent_ended_at=70)], aged_at=60)),
    (checkers.acked_is_durable, acked("read", "accepted", seen=((1, "RunStarted"), (2, "TimerSet")))),
    (checkers.one_end_and_it_is_last, log(*SOUND, ENDED)),
    (checkers.one_end_and_it_is_last, log(ENDED, STARTED)),
    (checkers.one_end_and_it_is_last, log(*SOUND, status="failed")),
    (checkers.one_end_and_it_is_last, log(*SOUND[:-1])),
    (checkers.epochs_never_fall, log(*SOUND, epochs=[1, 2, 1, 1, 1])),
    (checkers.epochs_never_fall, log(*SOUND, epochs=[1, 1, 1, 1, 2])),
    (checkers.mail_is_folded_once, log(STARTED, ENDED)),
    (checkers.mail_is_folded_once, log(STARTED, SIGNAL, SIGNAL, ENDED)),
    (checkers.mail_is_folded_once, log(STARTED, SIGNAL, ENDED, mails=(1, 2))),
    (checkers.mail_is_folded_once, log(STARTED, SIGNAL, ENDED, mails=())),
    (checkers.timers_fire_once_and_never_early, log(STARTED, FIRED)),
    (checkers.timers_fire_once_and_never_early, log(TIMER, FIRED)),
    (checkers.timers_fire_once_and_never_early, log(STARTED, TIMER, FIRED, FIRED)),
    (checkers.timers_fire_once_and_never_early, log(STARTED, REQUESTED, FAILED, RETRIED)),
    (checkers.one_outcome_a_call, log(STARTED, COMPLETED)),
    (checkers.one_outcome_a_call, log(STARTED, REQUESTED, COMPLETED, COMPLETED)),
    (checkers.one_outcome_a_call, log(STARTED, REQUESTED, REQUESTED)),
    (checkers.requests_come_first, log(STARTED, invocations=[made()])),
    (checkers.requests_come_first, log(*SOUND, invocations=[made(position=1)])),
    (checkers.requests_come_first, log(*SOUND, invocations=[made(attempt=2)])),
    (checkers.requests_come_first, log(*SOUND, invocations=[made(key="another")])),
    (checkers.nothing_is_called_in_vain, log(*SOUND, invocations=[made(position=3)])),
    (checkers.nothing_is_called_in_vain, log(*SOUND, invocations=[made(), made()])),
    (checkers.nothing_is_called_in_vain, log(*SOUND, invocations=[made(epoch_now=2)])),
    (checkers.effects_happen_once, log(*SOUND, effects=[Effect("pay", None, made())] * 2)),
    (checkers.effects_happen_once, log(*SOUND, effects=[Effect("pay", key, made()) for key in ("a", "b")])),
    (checkers.mail_is_folded_once, log(STARTED, SIGNAL, SIGNAL_AGAIN, ENDED, mails=(1, 2))),
    (checkers.children_belong, log(STARTED, CHILD, ENDED)),
    (checkers.everything_ends, log(STARTED, status="parked")),
    (checkers.everything_ends, log(*SOUND, unfinished=["start r"])),
    (checkers.everything_ends, log(*SOUND, errors=["logged: oh"])),
    (checkers.everything_ends, log(*SOUND, is_over=False)),
]


@pytest.mark.parametrize(("checker", "evidence"), BAD, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_rule_is_seen(checker, evidence):
    assert list(checker(evidence))


def test_what_is_held_back_and_what_is_deleted_for_good_reasons_passes():
    held = log(STARTED, STOPPED, RESERVED, ENDED, epochs=[1, 3, 4, 4], takeovers_max=2)
    repaired = log(STARTED, ev.LogRepaired(first=2, last=3, reason="bad"), ENDED, damaged={"r": 2})
    deleted = log(*SOUND, erased=[erased(ended_at=50, parent_ended_at=55)], aged_at=60)
    for evidence in (held, repaired, deleted):
        for checker in (checkers.only_what_harms_is_held_back, checkers.damage_is_found,
                        checkers.only_the_past_is_deleted):  # fmt: skip
            assert list(checker(evidence)) == []
    gone = log(*SOUND, erased=[erased(ended_at=50)], aged_at=60, acks=[Ack("signal", "r", "unknown", 9, "k")])
    assert list(checkers.acked_is_durable(gone)) == []


def test_an_effect_under_one_key_happens_once_however_often_it_is_tried():
    effects = [Effect("pay", "r/1/a#1", made(attempt=n)) for n in (1, 2)]
    assert list(checkers.effects_happen_once(log(*SOUND, effects=effects))) == []


def test_a_call_that_left_a_stopped_process_late_is_nobodys_fault():
    late = made(position=4, epoch_now=2, was_held=True)
    assert list(checkers.nothing_is_called_in_vain(log(*SOUND, invocations=[late]))) == []


def test_a_hole_a_repeat_and_a_feed_that_forgets_are_seen():
    sound = log(*SOUND)
    rows = sound.streams["r"]
    for stream in (rows[:1] + rows[2:], (*rows[:2], *rows[1:])):
        assert list(checkers.sequences_are_dense(replace(sound, streams={"r": stream}, _read={})))
    assert list(checkers.sequences_are_dense(replace(sound, feed=sound.feed[1:], _places={})))
    assert list(checkers.sequences_are_dense(replace(sound, heads={"r": head_of("r", "completed", 9)})))


def test_a_checksum_that_does_not_fit_is_seen():
    sound = log(*SOUND)
    rows = sound.streams["r"]
    changed = msgspec.structs.replace(rows[2], body=rows[2].body.replace(b"x", b"y"))
    exchanged = (rows[0], *(msgspec.structs.replace(rows[b], sequence=a + 1) for a, b in ((1, 2), (2, 1))), *rows[3:])
    for stream in ((*rows[:2], changed, *rows[3:]), exchanged, rows[:-1]):
        assert list(checkers.checksums_fit(replace(sound, streams={"r": stream}, _read={})))
    assert not list(checkers.checksums_fit(sound))


def test_times_that_go_back_or_come_from_the_future_are_seen():
    sound = log(*SOUND)
    rows = list(sound.streams["r"])
    rows[3] = msgspec.structs.replace(rows[3], at=1)
    assert list(checkers.times_never_fall(replace(sound, streams={"r": rows}, _read={})))
    rows[3] = msgspec.structs.replace(rows[3], at=450)
    assert list(checkers.times_never_fall(replace(sound, streams={"r": rows}, _read={})))


def test_an_orphaned_child_is_seen():
    sound = log(*SOUND)
    heads = {**sound.heads, "x": head_of("x", "completed", 0, parent="r")}
    assert list(checkers.children_belong(replace(sound, heads=heads)))


# -- replay ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stream():
    """A run of the workload, as a schedule left it."""
    worlds = []
    keep = World.report

    def report(self, seed):
        worlds.append(self)
        return keep(self, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(World, "report", report)
        simulate(1)
    streams = worlds[0].evidence().streams
    return max(streams.items(), key=lambda item: sum(row.type == "CallRequested" for row in item[1]))


def test_a_sound_stream_replays_from_every_prefix(stream):
    run, rows = stream
    causes = [n for n, row in enumerate(rows) if issubclass(ev.EVENT_TYPES[row.type], ev.Cause)]
    assert [replay_differs(OWN.app.directory, run, rows, cause) for cause in [None, *causes]] == [None] * (
        len(causes) + 1
    )


def test_a_request_that_the_code_does_not_make_is_seen(stream):
    run, rows = stream
    asked = next(n for n, row in enumerate(rows) if row.type == "CallRequested")
    renamed = msgspec.structs.replace(rows[asked], body=rows[asked].body.replace(b'"call":"', b'"call":"x'))
    bad = (*rows[:asked], renamed, *rows[asked + 1 :])
    evidence = Evidence({run: bad}, {}, {}, [], directory=OWN.app.directory)
    assert list(replays_identically(evidence, random.Random(1)))


def test_a_request_that_the_log_lacks_is_seen(stream):
    run, rows = stream
    asked = next(n for n, row in enumerate(rows) if row.type == "CallRequested")
    short = [msgspec.structs.replace(row, sequence=n) for n, row in enumerate(rows[:asked], 1)]
    assert replay_differs(OWN.app.directory, run, short, None)


def test_what_the_program_logs_as_an_error_is_a_violation():
    errors = []
    with listening(errors):
        logging.getLogger("pointsman.anything").error("it broke")
    assert errors == ["logged: it broke"]
