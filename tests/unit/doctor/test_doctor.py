"""The doctor on the memory store: what it finds, what it mends, and that a mended run ends as it would have."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pointsman import AgentError, App, Context, Retry, Run
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.doctor import repair as repairs
from pointsman.doctor import streams
from pointsman.doctor.examination import examine
from pointsman.doctor.findings import Counts, Finding
from pointsman.doctor.repair import NotRepairable, repair
from pointsman.kernel.checksum import first_damage, following
from pointsman.kernel.errors import UnknownRun
from pointsman.ports.runs import Redrive
from pointsman.stores.memory.database import HeadRow, MemoryDatabase
from pointsman.stores.memory.store import MemoryStore
from tests.unit.coordinator.test_integrity import app, change, edit_a_body, parked
from tests.unit.coordinator.test_service import Desk, coordinator, result, start, until

EVENTS = 10
"""Of a parked run."""


async def look(database: MemoryDatabase, *runs: str) -> tuple[list[Finding], Counts]:
    store, counts = MemoryStore(database), Counts()
    await store.open()
    try:
        return [finding async for finding in examine(store, counts, runs or None)], counts
    finally:
        await store.close()


async def problems(database: MemoryDatabase, *runs: str) -> list[tuple[str, str | None]]:
    return [(f.check, f.run) for f in (await look(database, *runs))[0] if f.level == "problem"]


async def mend(database: MemoryDatabase, run: str) -> tuple[list[str], dict[str, str]]:
    store = MemoryStore(database)
    await store.open()
    try:
        done = await repair(store, run, database.clock.now())
    finally:
        await store.close()
    return done.did, done.repeated


async def test_a_sound_store_is_looked_at_whole_and_nothing_is_said() -> None:
    database = MemoryDatabase()
    await parked(database, "a", "b", "c")
    findings, counts = await look(database)
    assert [finding for finding in findings if finding.level == "problem"] == []
    assert (counts.runs, counts.events) == (3, 3 * EVENTS)
    assert (await look(database, "b"))[1].runs == 1
    with pytest.raises(UnknownRun, match="nobody"):
        await look(database, "a", "nobody")


async def test_only_what_is_damaged_is_named() -> None:
    database = MemoryDatabase()
    await parked(database, "bad", "good")
    edit_a_body(database.runs["bad"])
    before = list(database.runs["bad"].events)
    (finding,) = [finding for finding in (await look(database))[0] if finding.level == "problem"]
    assert (finding.check, finding.run, finding.is_repairable) == ("log", "bad", True)
    assert "event 5, a CallCompleted, is not what was appended" in finding.message
    assert "--run bad --repair" in finding.remedy
    assert database.runs["bad"].events == before


@pytest.mark.parametrize("sequence", range(2, EVENTS + 1))
async def test_a_run_mended_anywhere_ends_as_it_would_have(sequence: int) -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    row = database.runs["r"]
    change(row, sequence, at=row.events[sequence - 1].at + 1)
    did, repeated = await mend(database, "r")
    assert f"events {sequence} to {EVENTS} were moved to quarantined_events" in did[0]
    assert [event.sequence for _, _, event in database.quarantined_events] == list(range(sequence, EVENTS + 1))
    assert set(repeated) == {f"double#{n}" for n in range(max((sequence - 1) // 2, 1), 5) if 2 * n + 1 >= sequence}
    assert all(key == f"r/1/{call}" for call, key in repeated.items())
    assert await problems(database) == []
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 34
    assert row.events[sequence - 1].type == "LogRepaired"
    assert first_damage("r", row.events, len(row.events)) is None


async def test_mail_that_the_bad_part_had_taken_in_is_taken_in_again() -> None:
    database = MemoryDatabase()
    desk = Desk()
    async with coordinator(desk.app, database) as one:
        await start(one, "wait", b"0")
        for n in range(3):
            await CoordinatorRuns(one).signal("r", "other", str(n).encode(), key=str(n))
        await until(lambda: database.runs["r"].folded == 3 and database.runs["r"].status == "parked")
    row = database.runs["r"]
    second = next(event.sequence for event in row.events if b"signal:1" in event.body)
    change(row, second, body=row.events[second - 1].body.replace(b"1", b"2", 1))
    did, _ = await mend(database, "r")
    assert "mail from number 2 on is folded in again" in did
    assert (row.folded, row.mail) == (1, 3)
    async with coordinator(desk.app, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"7", key="go")
        assert await result(two, "r") == "7"
    assert [event.type for event in row.events].count("SignalReceived") == 4


async def test_a_run_that_is_driven_is_taken_from_its_owner() -> None:
    """What its memory holds of it is worth nothing: it is fenced, and whoever claims it next reads the mended log."""
    database, desk = MemoryDatabase(), Desk()
    async with coordinator(desk.app, database) as one:
        await start(one, "ask", b'"a"')
        await desk.called.wait()
        row = database.runs["r"]
        change(row, 2, at=row.events[1].at + 1)
        assert (await mend(database, "r"))[1] == {"echo#1": "r/1/echo#1"}
        desk.go.set()
        assert await result(one, "r") == "a again"
    assert [event.type for event in row.events].count("CallRequested") == 2
    assert {call.idempotency_key for call in desk.calls} == {"r/1/echo#1", "r/1/echo#2"}


async def test_a_waiting_run_that_is_mended_is_read_anew_by_who_has_it_in_memory() -> None:
    """The repair puts an event in the place of the last one: the sequence is the one that memory knows."""
    database = MemoryDatabase()
    async with coordinator(app, database) as one:
        await start(one, "steps")
        await until(lambda: database.runs["r"].status == "parked" and one.roster.cached == 1)
        row = database.runs["r"]
        change(row, EVENTS, at=row.events[-1].at + 1)
        assert (await mend(database, "r"))[0][1] == f"the run goes on from event {EVENTS - 1}"
        await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        assert await result(one, "r") == 34
    assert row.events[EVENTS - 1].type == "LogRepaired"
    assert first_damage("r", row.events, len(row.events)) is None


async def test_a_redrive_that_is_lost_leaves_a_run_that_fails_again() -> None:
    """Its last word would be a failure, and its head says that it is open: it would park for ever."""
    database, failing = MemoryDatabase(), App("failing")
    broken = True

    @failing.workflow()
    async def odd(run: Run, n: int) -> int:
        if broken:
            raise ValueError("odd")
        return int(await run.wait_for("go"))

    async with coordinator(failing, database) as one:
        await start(one, "odd", b"1")
        await until(lambda: database.runs["r"].status == "failed")
    row = database.runs["r"]
    broken = False
    async with coordinator(failing, database, "two") as two:
        await CoordinatorRuns(two).redrive(Redrive("r"))
        await until(lambda: row.status == "parked")
    (redriven,) = [event.sequence for event in row.events if event.type == "RunRedriven"]
    change(row, redriven, at=row.events[redriven - 1].at + 1)
    findings, _ = await look(database, "r")
    did, _ = await mend(database, "r")
    goes_on = f"the run go on from event {redriven - 2}"
    assert [goes_on in finding.remedy for finding in findings if finding.check == "log"] == [True], findings
    assert f"the run goes on from event {redriven - 2}" in did
    assert "RunFailed" not in [event.type for event in row.events]
    async with coordinator(failing, database, "three") as three:
        await CoordinatorRuns(three).signal("r", "go", b"7", key="k")
        assert await result(three, "r") == 7
    assert first_damage("r", row.events, len(row.events)) is None


@pytest.mark.parametrize("has_fresh_key", [False, True])
async def test_what_a_redriven_run_may_repeat_is_named_by_the_keys_that_it_uses(has_fresh_key: bool) -> None:
    database, shop, broken, keys = MemoryDatabase(), App("shop"), {2}, set[str]()

    @shop.agent(retry=Retry(attempts=1))
    async def pay(n: int, ctx: Context) -> int:
        if n in broken:
            raise AgentError("out of order", retryable=False)
        keys.add(ctx.idempotency_key)
        return n

    @shop.workflow()
    async def bill(run: Run) -> int:
        paid = [await run.call(pay, n) for n in (1, 2, 3)]
        return int(await run.wait_for("go")) + len(paid)

    async with coordinator(shop, database) as one:
        await start(one, "bill")
        await until(lambda: database.runs["r"].status == "failed")
        broken.clear()
        await CoordinatorRuns(one).redrive(Redrive("r", has_fresh_key=has_fresh_key))
        await until(lambda: database.runs["r"].status == "parked")
    row = database.runs["r"]
    (redriven,) = [event.sequence for event in row.events if event.type == "RunRedriven"]
    change(row, redriven + 1, at=row.events[redriven].at + 1)
    assert set((await mend(database, "r"))[1].values()) == keys - {"r/1/pay#1"}
    async with coordinator(shop, database, "two") as two:
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        assert await result(two, "r") == 4
    assert len(keys) == 3


async def test_what_has_ended_or_lost_its_beginning_is_not_mended() -> None:
    database = MemoryDatabase()
    await parked(database, "ended", "headless")
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("ended", "go", b"1", key="k")
        assert await result(two, "ended") == 34
    edit_a_body(database.runs["ended"])
    change(database.runs["headless"], 1, at=5)
    findings = {finding.run: finding for finding in (await look(database))[0] if finding.check == "log"}
    assert not findings["ended"].is_repairable
    assert "has ended" in findings["ended"].remedy
    assert not findings["headless"].is_repairable
    assert "under another id" in findings["headless"].remedy
    for run in ("ended", "headless"):
        with pytest.raises(NotRepairable):
            await mend(database, run)
    assert database.quarantined_events == []


async def test_a_sound_run_is_left_alone_by_a_repair() -> None:
    database = MemoryDatabase()
    await parked(database, "r")
    epoch = database.runs["r"].epoch
    assert await mend(database, "r") == ([], {})
    assert database.runs["r"].epoch == epoch
    with pytest.raises(UnknownRun):
        await mend(database, "nobody")


async def test_mail_that_is_gone_is_found_and_the_run_can_end_again() -> None:
    database, desk = MemoryDatabase(), Desk()
    async with coordinator(desk.app, database) as one:
        await start(one, "wait", b"60")
        await until(lambda: database.runs["r"].status == "parked")
    row = database.runs["r"]
    store = MemoryStore(database)
    await store.open()
    for key in ("signal:a", "signal:b"):
        await store.mailbox.post("r", key, "signal", b'{"name":"go","payload":1}')
    del row.letters["signal:b"]
    assert await problems(database) == [("mail", "r")]
    assert (await mend(database, "r"))[0] == ["its mail was counted again, up to number 1"]
    assert row.mail == 1
    assert await problems(database) == []


async def test_mail_that_was_read_may_go() -> None:
    """It is in the stream; there is nothing to mend, for a run that is open or one that has ended."""
    database, desk = MemoryDatabase(), Desk()
    async with coordinator(desk.app, database) as one:
        await start(one, "wait", b"60")
        await CoordinatorRuns(one).signal("r", "go", b"1", key="k")
        row = database.runs["r"]
        await until(lambda: row.status == "parked" and row.folded == 1)
        row.letters.clear()
        assert await problems(database) == []
        await CoordinatorRuns(one).cancel("r")
        await until(lambda: row.status == "cancelled")
    row.letters.clear()
    assert await problems(database) == []


async def test_runs_held_back_stranded_or_abandoned_are_named_with_their_reasons() -> None:
    database = MemoryDatabase()
    await parked(database, "held", "other")
    row = database.runs["held"]
    row.takeovers = 5
    async with coordinator(app, database, "two") as two:
        await CoordinatorRuns(two).signal("held", "go", b"1", key="k")
        await until(lambda: row.status == "quarantined")
        assert await problems(database) == [("held", "held")]
        (held,) = [finding for finding in (await look(database))[0] if finding.check == "held"]
        assert held.message.startswith("quarantined: poisoned_run: ")
        assert "pointsman runs release held" in held.remedy
    desk = Desk()
    async with coordinator(desk.app, database, "three"):
        assert ("stranded", None) in await problems(database, "other")
    database.runs["other"].owner = 99
    assert ("owner", "other") in await problems(database)


async def test_events_of_other_releases_are_told_from_damage() -> None:
    database = MemoryDatabase()
    await parked(database, "future", "odd")
    _rewrite(database.runs["future"], version=7)
    _rewrite(database.runs["odd"], body=b'{"nothing":"of it"}')
    findings = {finding.run: finding for finding in (await look(database))[0] if finding.check == "log"}
    assert "newer release" in findings["future"].message
    assert not findings["future"].is_repairable
    assert "is not a SignalAwaited" in findings["odd"].message
    assert "was appended like this" in findings["odd"].message


def _rewrite(row: HeadRow, **columns: object) -> None:
    """As a release would append it that writes its last event otherwise: the checksum fits."""
    last = msgspec.structs.replace(row.events[-1], **columns)
    checksum = following(
        row.events[-2].checksum, last.sequence, last.at, last.type, last.version, last.epoch, last.body
    )
    row.events[-1] = msgspec.structs.replace(last, checksum=checksum)


async def test_a_run_that_goes_on_meanwhile_is_not_taken_for_damaged() -> None:
    """Its head was read before its events: they seem to be behind it."""
    database, desk = MemoryDatabase(), Desk()
    async with coordinator(desk.app, database) as one:
        await start(one, "ask", b'"a"')
        await desk.called.wait()
        store, counts = MemoryStore(database), Counts()
        await store.open()
        read_many = store.log.read_many

        async def slowly(after: dict[str, int], **limits: Any) -> object:
            desk.go.set()
            assert await result(one, "r") == "a again"
            return await read_many(after, **limits)

        store.log.read_many = slowly  # type: ignore[method-assign, assignment]
        assert [f async for f in examine(store, counts) if f.level == "problem"] == []
        assert counts.events > 0


@pytest.mark.parametrize("bytes_max", [1, 300, 2_000])
async def test_what_comes_in_several_answers_is_looked_at_whole(
    bytes_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs may be large: the store is asked for a limited number of bytes at a time."""
    database = MemoryDatabase()
    await parked(database, "a", "bad", "c")
    edit_a_body(database.runs["bad"])
    monkeypatch.setattr(streams, "EVENTS_BYTES", bytes_max)
    monkeypatch.setattr(repairs, "EVENTS_BYTES", bytes_max)
    store, counts = MemoryStore(database), Counts()
    await store.open()
    (found,) = [f async for f in examine(store, counts) if f.level == "problem"]
    assert (found.run, "event 5" in found.message) == ("bad", True)
    assert counts.events == sum(len(database.runs[run].events) for run in "ac") + 4 + 1
    await repair(store, "bad", database.clock.now())
    assert [f async for f in examine(store, Counts()) if f.level == "problem"] == []
