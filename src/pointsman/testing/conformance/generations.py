"""Where a generation begins, and the redrive of failed runs: the one append that moves a run that has ended."""

from __future__ import annotations

from pointsman.kernel.errors import RunEnded
from pointsman.ports.event_log import Append, Head, Outcome, Resolution, RunFilter
from pointsman.ports.inspection import Cut
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    Coordinator,
    assert_dense,
    both,
    coordinator,
    coordinators,
    event,
    nonce,
    raises,
)


def _begins(a: Coordinator, run: str, expected: int, *, events: int, at: tuple[int, ...]) -> Append:
    """A step whose events `at` (from 1) each begin a generation."""
    append = a.step(run, expected, events=events)
    append.generations, append.base = len(at), expected + at[-1]
    return append


def _redrive(a: Coordinator, head: Head) -> Append:
    return Append(
        run=head.id, epoch=head.epoch, expected=head.sequence, nonce=nonce(), events=[event(type="RunRedriven")],
        status="running", owner=None, folded=head.folded, wake_at=a.store.clock.now(), redrives=True,
    )  # fmt: skip


async def _failed(a: Coordinator, run: str, *, status: str = "failed") -> Head:
    await a.moved(a.create(run))
    append = a.finish(run, 1)
    append.status = status
    await a.moved(append)
    return await a.head(run)


async def a_generation_begins_where_its_event_is(harness: Harness) -> None:
    """A loader is told so by the claim, and reads nothing before it."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"), a.create("other"))
    assert ((await a.head("run")).base, (await a.head("run")).generation) == (1, 1)
    await a.moved(_begins(a, "run", 1, events=4, at=(3,)), a.step("other", 1))
    assert ((await b.head("run")).base, (await b.head("run")).generation) == (4, 2)
    assert ((await b.head("other")).base, (await b.head("other")).generation) == (1, 1)
    await a.moved(a.step("run", 5, events=2))
    claimed = await b.take("run", a)
    assert (claimed.base, claimed.generation, claimed.sequence) == (4, 2, 7)
    read = await b.store.log.read("run", after=claimed.base - 1)
    assert [recorded.sequence for recorded in read] == [4, 5, 6, 7]
    listed, _ = await a.store.log.list_runs(RunFilter())
    assert {head.id: head.generation for head in listed} == {"run": 2, "other": 1}


async def generations_of_one_append_are_counted(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    await a.moved(_begins(a, "run", 1, events=5, at=(1, 2, 4)))
    assert ((await a.head("run")).base, (await a.head("run")).generation) == (5, 4)
    await a.moved(_begins(a, "run", 6, events=1, at=(1,)))
    assert ((await a.head("run")).base, (await a.head("run")).generation) == (7, 5)


async def a_cut_takes_generations_with_it(harness: Harness) -> None:
    """What a repair moves away may be where the last generation begins."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    for expected in (1, 3, 5):
        append = _begins(a, "run", expected, events=2, at=(2,))
        append.events[1] = event(type="RunRestarted")
        await a.moved(append)
    assert ((await a.head("run")).base, (await a.head("run")).generation) == (7, 4)
    for kept, epoch, sequence, begins in ((6, 1, 7, (5, 3)), (5, 2, 7, (5, 3)), (4, 3, 6, (3, 2)), (2, 4, 5, (1, 1))):
        cut = Cut("run", epoch, sequence, kept=kept, folded=0, repaired=event(type="LogRepaired"), reason="a test")
        assert await a.store.inspection.cut(cut)
        head = await a.head("run")
        assert (head.base, head.generation, head.sequence) == (*begins, kept + 1)


async def a_failed_run_is_redriven(harness: Harness) -> None:
    """Open again, owned by nobody, due at once, of a new epoch, and it takes mail."""
    a, b = await coordinators(harness, 2)
    failed = await _failed(a, "run")
    await raises(RunEnded, b.post("run", "early"))
    assert await b.claim() == []
    await b.moved(_redrive(b, failed))
    head = await a.head("run")
    assert (head.status, head.owner, head.ended_at) == ("running", None, None)
    assert (head.epoch, head.sequence) == (failed.epoch + 1, 3)
    stream = await a.stream("run")
    assert_dense(stream, 3)
    assert (stream[-1].type, stream[-1].epoch) == ("RunRedriven", failed.epoch + 1)
    assert await b.post("run", "late") == 1
    (claimed,) = await b.claim()
    assert (claimed.id, claimed.epoch) == ("run", failed.epoch + 2)
    await b.moved(b.finish("run", 3, epoch=claimed.epoch, folded=1))
    assert (await a.head("run")).status == "completed"


async def of_two_redrives_one_wins(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    for number in range(10):
        failed = await _failed(a, f"run-{number}")
        outcomes = await both(a.outcome(_redrive(a, failed)), b.outcome(_redrive(b, failed)))
        assert sorted(outcome.value for outcome in outcomes) == ["fenced", "moved"]
        assert_dense(await a.stream(failed.id), 3)
        assert (await a.head(failed.id)).epoch == failed.epoch + 1


async def a_redrive_of_an_older_failure_is_fenced(harness: Harness) -> None:
    """It has failed once more since: whoever looked at the first failure has not seen the second."""
    a, b = await coordinators(harness, 2)
    failed = await _failed(a, "run")
    await b.moved(_redrive(b, failed))
    (claimed,) = await b.claim()
    append = b.finish("run", 3, epoch=claimed.epoch)
    append.status = "failed"
    await b.moved(append)
    assert await a.outcome(_redrive(a, failed)) is Outcome.FENCED
    stale = _redrive(a, await a.head("run"))
    stale.expected -= 1
    assert await a.outcome(stale) is Outcome.CONFLICT
    assert_dense(await a.stream("run"), 4)
    await a.moved(_redrive(a, await a.head("run")))


async def only_a_failed_run_is_redriven(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("parked"), a.create("owned"))
    await a.moved(a.park("parked", 1))
    for status in ("completed", "cancelled"):
        await _failed(a, status, status=status)
    for run in ("completed", "cancelled", "parked", "owned"):
        before = await a.head(run)
        assert await a.outcome(_redrive(a, before)) is Outcome.CONFLICT
        assert await a.head(run) == before
        assert_dense(await a.stream(run), before.sequence)


async def a_redrive_beside_others_moves_alone(harness: Harness) -> None:
    a = await coordinator(harness)
    failed, completed = await _failed(a, "failed"), await _failed(a, "completed", status="completed")
    await a.moved(a.create("owned"))
    batch = [_redrive(a, completed), a.step("owned", 1), _redrive(a, failed), a.step("failed-too", 1)]
    outcomes = [result.outcome for result in await a.store.log.append(batch)]
    assert outcomes == [Outcome.CONFLICT, Outcome.MOVED, Outcome.MOVED, Outcome.MISSING]
    assert ((await a.head("owned")).epoch, (await a.head("failed")).epoch) == (1, failed.epoch + 1)


async def a_redrive_whose_reply_was_lost_is_found(harness: Harness) -> None:
    a = await coordinator(harness)
    failed = await _failed(a, "run")
    append = _redrive(a, failed)
    assert await a.store.log.resolve(append) is Resolution.ABSENT
    await a.moved(append)
    assert await a.store.log.resolve(append) is Resolution.OURS
    assert await a.store.log.resolve(_redrive(a, failed)) is Resolution.OTHERS


CASES = (
    a_generation_begins_where_its_event_is,
    generations_of_one_append_are_counted,
    a_cut_takes_generations_with_it,
    a_failed_run_is_redriven,
    of_two_redrives_one_wins,
    a_redrive_of_an_older_failure_is_fenced,
    only_a_failed_run_is_redriven,
    a_redrive_beside_others_moves_alone,
    a_redrive_whose_reply_was_lost_is_found,
)
