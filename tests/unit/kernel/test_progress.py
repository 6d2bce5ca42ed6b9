"""A body that waits for what can't come is found at once, and only such a one."""

from __future__ import annotations

import pytest

from pointsman import App, Handle, Run
from pointsman.kernel import events as ev
from pointsman.kernel.errors import RunDeadlocked
from pointsman.kernel.state import PendingCall
from tests.support.lab import Lab
from tests.support.programs import app as programs

app = App("progress")


@app.agent
async def work(n: int) -> int:
    return n


def answer(pending: PendingCall) -> bytes:
    return pending.data


@app.workflow()
async def itself(run: Run) -> None:
    async def loop(run: Run) -> None:
        await handles[0]

    handles: list[Handle[None]] = []
    handles.append(run.branch("loop", loop))
    await handles[0]


@app.workflow()
async def beside_a_signal(run: Run) -> str:
    async def loop(run: Run) -> None:
        await handles[0]

    handles: list[Handle[None]] = []
    handles.append(run.branch("loop", loop))
    said: str = await run.wait_for("go", expect=str)
    await run.sleep(5)
    if said != "go":
        await handles[0]
    return said


@pytest.mark.parametrize("evict", [False, True], ids=["in memory", "replayed at each step"])
def test_branches_that_wait_for_each_other_fail_the_run(evict: bool) -> None:
    workflow = programs.directory.workflow("deadlocked")
    assert workflow is not None
    lab = Lab(programs, workflow, b"1", answer=answer, evict=lambda _: evict).run()
    assert lab.failure.kind == RunDeadlocked.code
    assert lab.failure.message.endswith("Left waiting: the body, one/1, other/1")
    assert lab.types.count("CallCompleted") == 2


def test_a_branch_that_waits_for_itself_fails_the_run_in_its_first_step() -> None:
    lab = Lab(app, itself, answer=answer)
    assert lab.failure.kind == RunDeadlocked.code
    assert lab.types == ["RunStarted", "RunFailed"]


@pytest.mark.parametrize("evict", [False, True], ids=["in memory", "replayed at each step"])
def test_what_a_signal_may_still_bring_is_no_deadlock(evict: bool) -> None:
    assert Lab(app, beside_a_signal, answer=answer).run().execution.state.outcome is None
    well = Lab(app, beside_a_signal, answer=answer, signals=[("go", b'"go"')], evict=lambda _: evict).run()
    assert well.output == "go"
    badly = Lab(app, beside_a_signal, answer=answer, signals=[("go", b'"stop"')], evict=lambda _: evict).run()
    assert badly.failure.kind == RunDeadlocked.code


def test_a_cancel_that_comes_while_a_deadlock_is_recorded_changes_nothing() -> None:
    """Mail is recorded before the end; a replay must not take it for what ended the run."""
    lab = Lab(app, itself, answer=answer)
    cancel = ev.CancelRequested(mail=1, key="c", reason="late")
    late = ev.Recorded(2, lab.now, "CancelRequested", 1, ev.encode_event(cancel))
    ended = ev.Recorded(3, lab.now, "RunFailed", 1, lab.log[1].body)
    lab.log[1:] = [late, ended]
    lab._reload()
    assert lab.failure.kind == RunDeadlocked.code


def test_a_body_that_waits_where_its_log_ended_is_another_code_and_no_deadlock() -> None:
    changed = App("progress")
    changed.agent(work.function)

    @changed.workflow(name="itself")
    async def fine(run: Run) -> None: ...

    lab = Lab(changed, fine, answer=answer)
    assert lab.types == ["RunStarted", "RunCompleted"]
    lab.workflow, lab.app = itself, app
    with pytest.raises(Exception, match="RunCompleted"):
        lab._reload()
