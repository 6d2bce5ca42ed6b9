"""Typed states of runs: there with the events that set them, and only with them; byte for byte."""

from __future__ import annotations

import asyncio

from pointsman.kernel.checksum import beginning
from pointsman.kernel.errors import RunEnded, UnknownRun
from pointsman.ports.event_log import Append, Outcome, chained
from pointsman.ports.human_tasks import TaskRow
from pointsman.ports.inspection import Cut
from pointsman.ports.reservations import Reservation, ReservationRow
from pointsman.ports.states import NO_STATE, StateRow
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import Coordinator, coordinator, coordinators, letter, raises


async def an_append_sets_the_state(harness: Harness) -> None:
    """Also one that creates its run; the last one stands, and an append without one changes nothing."""
    a, b = await coordinators(harness, 2)
    assert await b.store.states.of(["run", "other"]) == {}
    await a.moved(_with(a.create("run", events=2), b'{"n":1}', 2), a.create("other"))
    assert await _of(b, "run", "other", "nobody") == {"run": (1, b'{"n":1}', 2)}
    await a.moved(_with(a.step("run", 2), b'{"n":2}', 3, version=7), _with(a.step("other", 1), b"[]", 2))
    assert await _of(b, "run", "other") == {"run": (7, b'{"n":2}', 3), "other": (1, b"[]", 2)}
    await a.moved(a.step("run", 3), a.finish("other", 2))
    assert await _of(b, "run", "other") == {"run": (7, b'{"n":2}', 3), "other": (1, b"[]", 2)}


async def a_refused_append_sets_no_state(harness: Harness) -> None:
    """Its neighbours in the batch do."""
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(9)]
    await a.moved(*(a.create(run) for run in runs))
    await b.take("run-1", a)
    await a.post("run-3", "mail")
    batch = [a.step(run, 1) for run in runs]
    batch[2] = a.step("run-2", 7)
    batch[3] = a.park("run-3", 1)
    batch[4] = a.create("run-4")
    batch[5] = a.step("nobody", 1)
    results = await a.store.log.append([_with(append, b"1", append.expected + 1) for append in batch])
    refused = {1: Outcome.FENCED, 2: Outcome.CONFLICT, 3: Outcome.MAIL_ARRIVED, 4: Outcome.EXISTS, 5: Outcome.MISSING}
    assert [result.outcome for result in results] == [refused.get(number, Outcome.MOVED) for number in range(9)]
    found = await b.store.states.of([*runs, "nobody"])
    assert sorted(found) == [run for number, run in enumerate(runs) if number not in refused]


async def of_two_appends_the_one_that_moved_sets_the_state(harness: Harness) -> None:
    """Two writers at one sequence, again and again."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    for sequence in range(1, 21):
        appends = {one: _with(one.step("run", sequence), b"%d" % one.number, sequence + 1) for one in (a, b)}
        outcomes = await asyncio.gather(*(one.outcome(append) for one, append in appends.items()))
        (winner,) = [one for one, outcome in zip(appends, outcomes, strict=True) if outcome is Outcome.MOVED]
        assert await _of(a, "run") == {"run": (1, b"%d" % winner.number, sequence + 1)}


async def a_state_comes_with_families_tasks_and_reservations(harness: Harness) -> None:
    """Whatever else its batch says; an orphan's is not written."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"), a.create("lost"), a.create("spender"))
    await b.take("lost", a)
    batch = [
        _with(a.step("parent", 1), b"1", 2),
        _with(a.create("child", parent="parent"), b"2", 1),
        _with(a.step("lost", 1), b"3", 2),
        _with(a.create("orphan", parent="lost"), b"4", 1),
        _with(a.step("spender", 1), b"5", 2),
    ]
    batch[1].tasks = (TaskRow("task", "ask#1", "open", "Well?", b"{}", 1),)
    batch[4].reservations = (ReservationRow("t", 2),)
    await a.store.log.append(batch)
    runs = ["parent", "child", "lost", "orphan", "spender"]
    assert await _of(b, *runs) == {"parent": (1, b"1", 2), "child": (1, b"2", 1), "spender": (1, b"5", 2)}
    assert await b.store.human_tasks.get("task") is not None
    assert await b.store.reservations.of("t") == [Reservation("t", "spender", 2)]
    await a.moved(_with(a.finish("child", 1, letter=letter("parent", "child")), b"6", 2))
    assert await _of(b, "child") == {"child": (1, b"6", 2)}
    assert [mail.key for mail in await a.store.mailbox.read("parent", after=0)] == ["child/child"]


async def a_state_may_go_again(harness: Harness) -> None:
    """Nothing of it is left, and no other run's goes."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run"), b"1", 1), _with(a.create("other"), b"2", 1))
    append = a.step("run", 1)
    append.state = NO_STATE
    await a.moved(append)
    assert await _of(b, "run", "other") == {"other": (1, b"2", 1)}
    await a.moved(_with(a.step("run", 2), b"3", 3))
    assert await _of(b, "run") == {"run": (1, b"3", 3)}


async def a_state_comes_back_byte_for_byte(harness: Harness) -> None:
    """Keys in their order, numbers as they were written, text of all planes; also a large one."""
    a = await coordinator(harness)
    values = [
        b'{"b":1,"a":2}', b"1.0", b"1e2", b"-0.0", b"null", b"9007199254740993", '"naïve \U0001f600"'.encode(),
        b'{"z":"' + b"x" * 200_000 + b'"}',
    ]  # fmt: skip
    for number, value in enumerate(values):
        await a.moved(_with(a.create(f"run-{number}"), value, 1))
    found = await a.store.states.of([f"run-{number}" for number in range(len(values))])
    assert [found[f"run-{number}"].value for number in range(len(values))] == values


async def a_redrive_sets_the_state_that_stands(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run", events=2), b"1", 2))
    failed = _with(a.finish("run", 2), b"2", 3)
    failed.status = "failed"
    await a.moved(failed)
    redrive = _with(a.step("run", 3), b"1", 2)
    redrive.redrives, redrive.owner, redrive.wake_at = True, None, 1
    await b.moved(redrive)
    assert await _of(a, "run") == {"run": (1, b"1", 2)}


async def a_cut_sets_the_state_that_stands(harness: Harness) -> None:
    """Or none; and a cut that does nothing leaves it."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run", events=5), b"1", 5), _with(a.create("bare", events=5), b"2", 5))
    assert not await a.store.inspection.cut(_cut("run", 4, 2, StateRow(1, b"0", 2)))
    assert await _of(a, "run") == {"run": (1, b"1", 5)}
    assert await a.store.inspection.cut(_cut("run", 5, 2, StateRow(3, b"0", 2)))
    assert await a.store.inspection.cut(_cut("bare", 5, 2, None))
    assert await _of(a, "run", "bare") == {"run": (3, b"0", 2)}


async def a_state_is_written_again_where_its_head_stands(harness: Harness) -> None:
    """By epoch and sequence, and whatever has become of the run; nowhere else."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run", events=2), b"1", 2), _with(a.create("other"), b"9", 1))
    states, right = b.store.states, StateRow(2, b"2", 1)
    assert not await states.rewrite("run", 2, 2, right)
    assert not await states.rewrite("run", 1, 1, right)
    assert not await states.rewrite("nobody", 1, 2, right)
    assert await _of(a, "run", "nobody") == {"run": (1, b"1", 2)}
    assert await states.rewrite("run", 1, 2, right)
    assert await _of(a, "run", "other") == {"run": (2, b"2", 1), "other": (1, b"9", 1)}
    await a.moved(a.finish("run", 2))
    assert await states.rewrite("run", 1, 3, NO_STATE)
    assert await states.rewrite("run", 1, 3, NO_STATE)
    assert await _of(a, "run", "other") == {"other": (1, b"9", 1)}


async def a_state_goes_with_its_run(harness: Harness) -> None:
    """Retention deletes it, and another run of the same id begins without."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run", bucket=0), b"1", 1), _with(a.create("open", bucket=0), b"2", 1))
    await a.moved(a.finish("run", 1))
    head = await a.head("run")
    assert head.ended_at is not None
    assert await a.store.retention.delete(head.ended_at + 1, limit=10) == 1
    assert await _of(a, "run", "open") == {"open": (1, b"2", 1)}


async def a_letter_sets_no_state(harness: Harness) -> None:
    """Mail changes nothing of it, whether it is taken or not."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), b"1", 1))
    await a.post("run", "mail")
    await raises(UnknownRun, a.post("nobody", "mail"))
    await a.moved(a.finish("run", 1, folded=1))
    await raises(RunEnded, a.post("run", "late"))
    assert await _of(a, "run", "nobody") == {"run": (1, b"1", 1)}


def _with(append: Append, value: bytes, sequence: int, *, version: int = 1) -> Append:
    append.state = StateRow(version, value, sequence)
    return append


async def _of(one: Coordinator, *runs: str) -> dict[str, tuple[int, bytes, int]]:
    found = await one.store.states.of(runs)
    return {run: (row.version, row.value, row.sequence) for run, row in found.items()}


def _cut(run: str, sequence: int, kept: int, state: StateRow | None) -> Cut:
    repaired = chained(
        beginning(run), kept + 1, 2, type="LogRepaired", version=1, at=1_700_000_000_000, body=b'{"first":3}'
    )
    return Cut(run, 1, sequence, kept, 0, repaired, "event 3 is not what was appended", state)


CASES = (
    an_append_sets_the_state,
    a_refused_append_sets_no_state,
    of_two_appends_the_one_that_moved_sets_the_state,
    a_state_comes_with_families_tasks_and_reservations,
    a_state_may_go_again,
    a_state_comes_back_byte_for_byte,
    a_redrive_sets_the_state_that_stands,
    a_cut_sets_the_state_that_stands,
    a_state_is_written_again_where_its_head_stands,
    a_state_goes_with_its_run,
    a_letter_sets_no_state,
)
