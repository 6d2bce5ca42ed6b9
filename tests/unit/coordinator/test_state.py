"""The typed state of runs behind coordinators: what is shown of it, who can't read it, and what the doctor does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from pointsman import AgentError, App, Retry, Run
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.doctor.findings import Finding
from pointsman.doctor.repair import NotRepairable
from pointsman.kernel.errors import UnknownRun
from pointsman.ports.runs import Redrive
from pointsman.ports.states import StateRow
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.states import MemoryStates
from tests.unit.coordinator.test_integrity import change
from tests.unit.coordinator.test_service import coordinator, result, start, types, until
from tests.unit.doctor.test_doctor import look, mend


class V1(BaseModel):
    status: str = "new"
    total: int = 0


class V2(BaseModel):
    phase: str
    total: int = 0


def to_v2(old: dict[str, Any]) -> dict[str, Any]:
    return {"phase": old["status"], "total": old["total"]}


class Flag:
    is_well = False


def deployed(kind: type[BaseModel], build: str, version: int = 1, upcasters: Mapping[int, Any] | None = None) -> App:
    """The same body under another schema; `build` makes it other code."""
    app, flag = App("stating"), Flag()
    app.__dict__["flag"] = flag
    status = "status" if kind is V1 else "phase"

    @app.agent
    def double(n: int) -> int:
        return 2 * n

    @app.agent(retry=Retry(attempts=1))
    def risky(n: int) -> int:
        if not flag.is_well:
            raise AgentError("no", kind="refused")
        return n

    async def order(run: Run) -> Any:
        run.set(**{status: "begun"})
        for n in range(2):
            run.set(total=run.state.total + await run.call(double, n))
        await run.wait_for("go")
        run.set(**{status: "done"})
        return run.state.model_dump()

    async def trying(run: Run) -> str:
        run.set(**{status: "trying"})
        try:
            await run.call(risky, 1)
        except Exception:
            run.set(**{status: "given up"})
            raise
        return str(getattr(run.state, status))

    for body in (order, trying):
        declared = app.workflow(state=kind, state_version=version, state_upcasters=upcasters)(body)
        app._workflows[declared.name, 1] = type(declared)(
            declared.name, 1, declared.function, declared.signature, build, state=declared.state
        )
    return app


before = deployed(V1, "one")


async def parked(database: MemoryDatabase, app: App, *runs: str) -> None:
    async with coordinator(app, database) as one:
        for run in runs:
            await start(one, "order", run=run)
        await until(lambda: all(database.runs[run].status == "parked" for run in runs))


async def go(service: Any, run: str) -> Any:
    await CoordinatorRuns(service).signal(run, "go", b"1", key="k")
    return await result(service, run)


async def shown(service: Any, run: str = "r") -> tuple[int | None, Any, int | None]:
    view = await CoordinatorRuns(service).state(run)
    return view.version, None if view.value is None else msgspec.json.decode(view.value), view.sequence


async def test_what_stands_is_shown_by_any_coordinator() -> None:
    database = MemoryDatabase()
    async with coordinator(before, database) as one, coordinator(before, database, "two") as two:
        await start(one, "order")
        await until(lambda: database.runs["r"].status == "parked")
        for service in (one, two):
            assert await shown(service) == (1, {"status": "begun", "total": 2}, 8)
            with pytest.raises(UnknownRun):
                await shown(service, "nobody")
        assert await go(two, "r") == {"status": "done", "total": 2}
        assert await shown(one) == (1, {"status": "done", "total": 2}, len(await types(one)) - 1)
    assert [f for f in (await look(database))[0] if f.level == "problem"] == []


async def test_a_run_without_a_state_has_none() -> None:
    app = App("plain")

    @app.workflow()
    async def plain(run: Run) -> int:
        return 1

    database = MemoryDatabase()
    async with coordinator(app, database) as one:
        await start(one, "plain")
        await result(one, "r")
        assert await shown(one) == (None, None, None)
    assert database.states == {}


async def test_newer_code_goes_on_with_an_older_state() -> None:
    database = MemoryDatabase()
    await parked(database, before, "r")
    async with coordinator(deployed(V2, "two", 2, {1: to_v2}), database, "two") as two:
        assert await shown(two) == (1, {"status": "begun", "total": 2}, 8)
        assert await go(two, "r") == {"phase": "done", "total": 2}
        assert await shown(two) == (2, {"phase": "done", "total": 2}, 11)


async def test_a_state_that_does_not_fit_holds_its_run_back_and_no_other() -> None:
    """The report is exact, the doctor says what to do, and after that the run goes on."""
    database = MemoryDatabase()
    await parked(database, before, "r")
    app = deployed(V2, "two")
    async with coordinator(app, database, "two") as two:
        await start(two, "order", run="new")
        await CoordinatorRuns(two).signal("r", "go", b"1", key="k")
        await until(lambda: database.runs["r"].status == "quarantined")
        assert await go(two, "new") == {"phase": "done", "total": 2}
        failure = (await CoordinatorRuns(two).get("r")).failure
        assert failure is not None
        assert failure.kind == "invalid_state"
        assert "what set:state#1 set, version 1 of the state, does not fit version 1" in failure.message
        assert 'phase: Field required. It is {"status":"begun","total":0}' in failure.message
        assert await shown(two) == (1, {"status": "begun", "total": 2}, 8)
    held = [finding for finding in (await look(database))[0] if finding.check == "held"]
    assert [(finding.run, finding.level) for finding in held] == [("r", "problem")]
    assert "invalid_state: what set:state#1 set" in held[0].message
    assert (
        "an upcaster (state_upcasters=) from the version that it has; then `pointsman runs release r`" in held[0].remedy
    )
    async with coordinator(deployed(V2, "three", 2, {1: to_v2}), database, "three") as three:
        assert database.runs["r"].status == "quarantined"
        await CoordinatorRuns(three).release("r")
        assert await result(three, "r") == {"phase": "done", "total": 2}


async def test_a_state_from_the_future_waits_for_its_code() -> None:
    database = MemoryDatabase()
    newer = deployed(V2, "two", 2, {1: to_v2})
    await parked(database, newer, "r")
    async with coordinator(before, database, "old") as old:
        await CoordinatorRuns(old).signal("r", "go", b"1", key="k")
        await until(lambda: database.runs["r"].status == "stopped")
        failure = (await CoordinatorRuns(old).get("r")).failure
        assert failure is not None
        assert failure.kind == "state_from_future"
    async with coordinator(newer, database, "new") as new:
        assert await result(new, "r") == {"phase": "done", "total": 2}


async def test_a_redrive_shows_the_state_that_it_goes_on_from() -> None:
    database, app = MemoryDatabase(), deployed(V1, "one")
    async with coordinator(app, database) as one:
        await start(one, "trying")
        await until(lambda: "r" in database.runs and database.runs["r"].status == "failed")
        assert await shown(one) == (1, {"status": "given up", "total": 0}, 5)
        app.__dict__["flag"].is_well = True
        service, seen = CoordinatorRuns(one), []
        write = database.write_state
        database.write_state = lambda run, state: (seen.append(state), write(run, state))[1]  # type: ignore[method-assign]
        await service.redrive(Redrive("r"))
        assert await result(one, "r") == "trying"
        assert [msgspec.json.decode(state.value)["status"] for state in seen] == ["trying"]
        assert await shown(one) == (1, {"status": "trying", "total": 0}, 2)
    assert [f for f in (await look(database))[0] if f.level == "problem"] == []


def forget(database: MemoryDatabase) -> None:
    del database.states["r"]


def edit(database: MemoryDatabase) -> None:
    database.states["r"] = msgspec.structs.replace(database.states["r"], value=b'{"status":"sold","total":9}')


def grow_old(database: MemoryDatabase) -> None:
    database.states["r"] = StateRow(1, b'{"status":"begun","total":0}', 2)


@pytest.mark.parametrize("damage", [forget, edit, grow_old])
async def test_a_row_that_is_not_what_the_log_says_is_written_again(damage: Callable[[MemoryDatabase], None]) -> None:
    database = MemoryDatabase()
    await parked(database, before, "r", "other")
    right = dict(database.states)
    damage(database)
    (finding,) = [f for f in (await look(database))[0] if f.level == "problem"]
    assert isinstance(finding, Finding)
    assert (finding.check, finding.run, finding.is_repairable) == ("state", "r", True)
    assert "which is version 1, set by event 8" in finding.message
    assert await mend(database, "r") == (["its row in states was written again: version 1, set by event 8"], {})
    assert database.states == right
    assert await mend(database, "r") == ([], {})
    async with coordinator(before, database, "two") as two:
        assert await go(two, "r") == {"status": "done", "total": 2}


async def test_a_row_of_a_run_that_moves_on_is_left_to_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    database = MemoryDatabase()
    await parked(database, before, "r")
    edit(database)

    async def refused(self: MemoryStates, *args: Any) -> bool:
        return False

    monkeypatch.setattr(MemoryStates, "rewrite", refused)
    with pytest.raises(NotRepairable, match="run r moved meanwhile"):
        await mend(database, "r")


@pytest.mark.parametrize("sequence", range(2, 10))
async def test_a_repaired_log_has_the_state_that_is_left(sequence: int) -> None:
    """Whatever is moved away; and the run ends as it would have."""
    database = MemoryDatabase()
    await parked(database, before, "r")
    row = database.runs["r"]
    change(row, sequence, at=row.events[sequence - 1].at + 1)
    did, _ = await mend(database, "r")
    assert not any("its row in states" in done for done in did), "the cut itself leaves the row right"
    kept = sequence - 1
    if kept < 2:
        assert database.states == {}
    else:
        assert msgspec.json.decode(database.states["r"].value) == {"status": "begun", "total": 2 if kept >= 8 else 0}
    assert [f for f in (await look(database))[0] if f.level == "problem"] == []
    async with coordinator(before, database, "two") as two:
        assert await go(two, "r") == {"status": "done", "total": 2}
