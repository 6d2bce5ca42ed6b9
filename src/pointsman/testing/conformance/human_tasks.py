"""Human tasks: the list says what the appends that moved said, and nothing of those that did not."""

from __future__ import annotations

from typing import Any

from pointsman.kernel.errors import InvalidCursor, InvalidValue
from pointsman.ports.event_log import Append, Outcome
from pointsman.ports.human_tasks import HumanTask, TaskFilter, TaskRow
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.listing import HOSTILE
from pointsman.testing.conformance.support import (
    assert_dense,
    coordinator,
    coordinators,
    letter,
    raises,
)

AT = 1_700_000_000_000
QUESTIONS = (
    'Refund 30 €?\nThe customer says "yes".',
    "O'Brien \\ \\n \\u0041 $1 %s",
    "漢字 🚂 \u2028 \ufeff \x7f\x01",
    "",
    "x" * 100_000,
)
DETAILS = (
    b"{}",
    b'{"z":1,"a":-0.0,"z":1E+2}',
    b' { "spaces" : [ 1 , 2 ] } ',
    rb'{"text":"\u0041\/\n\u00e9\ud83d\ude82 \u0000 \"quoted\" \\ back"}',
    '{"text":"é ß 漢字 🚂 𝒜 \u2028 \ufeff"}'.encode(),
    b'{"text":"' + b"0123456789'abcd " * 65_536 + b'"}',
)
"""The last has 1 MB."""


async def a_task_is_opened_and_closed_by_appends(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run", tenant="acme", workflow="support"))
    assert await b.store.human_tasks.get("t1") is None
    await a.moved(_with(a.step("run", 1), _task("t1", question="Refund?", detail=b'{"a":1}')))
    task = await b.store.human_tasks.get("t1")
    assert task is not None
    assert (task.id, task.run, task.call, task.tenant, task.workflow) == ("t1", "run", "ask#1", "acme", "support")
    assert (task.status, task.question, bytes(task.detail)) == ("open", "Refund?", b'{"a":1}')
    assert (task.opened_at, task.closed_at) == (AT, None)
    await a.moved(_with(a.step("run", 2), _task("t1", "answered", AT + 5, question="Other?", detail=b'{"b":2}')))
    closed = await b.store.human_tasks.get("t1")
    assert closed is not None
    assert (closed.status, closed.question, bytes(closed.detail)) == ("answered", "Refund?", b'{"a":1}')
    assert (closed.opened_at, closed.closed_at) == (AT, AT + 5)


async def a_task_knows_where_its_call_was_requested(harness: Harness) -> None:
    """So that a look at it need not read its run from the first event. What does not say where leaves it as it is; a
    task that is opened again, in a log that was repaired, says so anew."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run", events=9), _task("t", requested=7), _task("other")))

    async def requested(task: str = "t") -> int:
        found = await b.store.human_tasks.get(task)
        assert found is not None
        return found.requested

    assert (await requested(), await requested("other")) == (7, 0)
    await a.moved(_with(a.step("run", 9), _task("t", assignee="bob"), _task("t", "closed", AT + 1)))
    assert await requested() == 7
    await a.moved(_with(a.step("run", 10), _task("t", requested=2_000_000_000)))
    assert await requested() == 2_000_000_000
    await a.moved(_with(a.step("run", 11), _task("t", requested=5)))
    assert [task.requested for task in await _list(b.store, TaskFilter()) if task.id == "t"] == [5]


async def only_another_status_changes_a_task(harness: Harness) -> None:
    """A task that is said to be closed again keeps its moment; one that is opened again has none."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), _task("t1")))
    said = ((("closed", 7), 7), (("closed", 9), 7), (("answered", 11), 11), (("open", 13), None), (("closed", 15), 15))
    for sequence, ((status, at), closed_at) in enumerate(said, 1):
        await a.moved(_with(a.step("run", sequence), _task("t1", status, AT + at)))
        task = await a.store.human_tasks.get("t1")
        assert task is not None
        assert (task.status, task.opened_at) == (status, AT)
        assert task.closed_at == (None if closed_at is None else AT + closed_at)


async def several_tasks_in_one_append(harness: Harness) -> None:
    """One opened and answered at once; one that is there and closes; one closed that nobody opened."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), _task("there")))
    await a.moved(
        _with(
            a.step("run", 1, events=4),
            _task("quick", "open", AT + 1, question="first"),
            _task("there", "closed", AT + 2),
            _task("quick", "answered", AT + 3, question="second"),
            _task("never opened", "closed", AT + 4),
        )
    )
    tasks = {task.id: task for task in await _list(a.store, TaskFilter())}
    assert {key: (task.status, task.opened_at - AT, task.closed_at) for key, task in tasks.items()} == {
        "quick": ("answered", 1, AT + 3),
        "there": ("closed", 0, AT + 2),
        "never opened": ("closed", 4, AT + 4),
    }
    assert tasks["quick"].question == "first"


async def a_refused_append_writes_no_task(harness: Harness) -> None:
    """Fenced, in conflict, met by mail, existing, missing: their neighbours' tasks are written in the same batch."""
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(9)]
    await a.moved(*(_with(a.create(run), _task(f"old-{run}")) for run in runs))
    await b.take("run-1", a)
    await a.post("run-3", "mail")
    batch = [a.step(run, 1) for run in runs]
    batch[2] = a.step("run-2", 7)
    batch[3] = a.park("run-3", 1)
    batch[4] = a.create("run-4")
    batch[5] = a.step("nobody", 1)
    for append in batch:
        _with(append, _task(f"new-{append.run}"), _task(f"old-{append.run}", "answered", AT + 1))
    outcomes = [result.outcome for result in await a.store.log.append(batch)]
    refused = {1: Outcome.FENCED, 2: Outcome.CONFLICT, 3: Outcome.MAIL_ARRIVED, 4: Outcome.EXISTS, 5: Outcome.MISSING}
    assert outcomes == [refused.get(number, Outcome.MOVED) for number in range(9)]
    for number, append in enumerate(batch):
        fresh = await b.store.human_tasks.get(f"new-{append.run}")
        known = await b.store.human_tasks.get(f"old-{append.run}")
        if number in refused:
            assert fresh is None, append.run
            assert known is None if append.run == "nobody" else known is not None and known.status == "open"
        else:
            assert fresh is not None, append.run
            assert fresh.run == append.run
            assert known is not None
            assert known.status == "answered"
            assert_dense(await a.stream(append.run), 2)


async def tasks_come_with_families_too(harness: Harness) -> None:
    """Beside a child that is created, and a letter to a parent; a child whose parent did not move writes none."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"), a.create("lost"))
    await b.take("lost", a)
    batch = [
        _with(a.step("parent", 1), _task("of the parent")),
        _with(a.create("child", parent="parent"), _task("of the child")),
        _with(a.step("lost", 1), _task("of the lost")),
        _with(a.create("orphan", parent="lost"), _task("of the orphan")),
    ]
    outcomes = [result.outcome for result in await a.store.log.append(batch)]
    assert outcomes == [Outcome.MOVED, Outcome.MOVED, Outcome.FENCED, Outcome.MISSING]
    assert sorted(await _ids(b.store, TaskFilter())) == ["of the child", "of the parent"]
    ending = a.finish("child", 1, letter=letter("parent", "child"))
    await a.moved(_with(ending, _task("of the child", "closed", AT + 1)))
    assert await _ids(b.store, TaskFilter(status=("closed",))) == ["of the child"]
    assert (await b.head("parent")).mail == 1


async def the_oldest_come_first(harness: Harness) -> None:
    """By the moment at which they were opened, then by id, whatever run they are of and in whatever order they came."""
    a = await coordinator(harness)
    order = [("c", 5), ("a", 1), ("Z", 3), ("z", 3), ("ä", 3), ("b", 0)]
    await a.moved(*(_with(a.create(f"run-{key}"), _task(key, at=AT + at)) for key, at in order))
    assert await _ids(a.store, TaskFilter()) == ["b", "a", "Z", "z", "ä", "c"]


async def a_task_is_given_from_one_to_the_next(harness: Harness) -> None:
    """What does not say whose it is leaves it as it is; what only says so leaves the rest, its end too."""
    a, b = await coordinators(harness, 2)
    await a.moved(_with(a.create("run"), _task("t", assignee="ann"), _task("nobody's")))

    async def row() -> tuple[str, str, int | None]:
        task = await b.store.human_tasks.get("t")
        assert task is not None
        return task.assignee, task.status, task.closed_at

    assert await row() == ("ann", "open", None)
    await a.moved(_with(a.step("run", 1), _task("t", at=AT + 1, assignee="bob")))
    assert await row() == ("bob", "open", None)
    await a.moved(_with(a.step("run", 2), _task("t", at=AT + 2, assignee="eve"), _task("t", "answered", AT + 3)))
    assert await row() == ("eve", "answered", AT + 3)
    await a.moved(_with(a.step("run", 3), _task("t", "answered", AT + 9, assignee="")))
    assert await row() == ("", "answered", AT + 3)
    await a.moved(_with(a.step("run", 4), _task("quick", at=AT + 9), _task("quick", at=AT + 9, assignee="zoe")))
    assert await _ids(b.store, TaskFilter(assignee="zoe")) == ["quick"]
    assert await _ids(b.store, TaskFilter(assignee="")) == ["nobody's", "t"]
    assert await _ids(b.store, TaskFilter(assignee="ann")) == []


async def tasks_are_listed_by_status_tenant_and_run(harness: Harness) -> None:
    a = await coordinator(harness)
    for number, tenant in enumerate(("acme", "other", "acme")):
        run = f"run-{number}"
        tasks = [_task(f"{run}/{status}", status) for status in ("open", "answered", "closed")]
        await a.moved(_with(a.create(run, tenant=tenant, workflow=f"w{number % 2}"), *tasks))

    async def found(**where: Any) -> list[str]:
        return await _ids(a.store, TaskFilter(**where))

    assert await found(status=("open",)) == ["run-0/open", "run-1/open", "run-2/open"]
    assert await found(status=("open", "closed"), run="run-1") == ["run-1/closed", "run-1/open"]
    assert await found(tenant="acme", status=("answered",)) == ["run-0/answered", "run-2/answered"]
    assert await found(tenant="acme", run="run-1") == []
    assert len(await found(tenant="other")) == 3
    assert len(await found()) == 9
    assert await found(status=("nonsense",)) == []
    assert await found(workflow="w1", status=("open",)) == ["run-1/open"]
    assert len(await found(workflow="w0")) == 6
    assert await found(workflow="w1", tenant="acme") == []


async def pages_are_complete_and_do_not_overlap(harness: Harness) -> None:
    """Many were opened at one moment; and new ones come while somebody turns the pages, who keeps the filter."""
    a = await coordinator(harness)
    tasks = [f"task-{number:02}" for number in range(37)]
    appends = [_with(a.create(f"run of {key}"), _task(key, at=AT + n // 5)) for n, key in enumerate(tasks)]
    await a.moved(*appends, _with(a.create("bystander"), _task("task-07b", "closed", AT + 1)))
    only_open = TaskFilter(status=("open",))
    for limit in (1, 5, 36, 37, 50):
        assert [task.id for task in await _list(a.store, only_open, limit=limit)] == tasks, limit
    page, cursor = await a.store.human_tasks.list(only_open, limit=10)
    seen = [task.id for task in page]
    await a.moved(_with(a.create("late"), _task("late", at=AT + 99)), _with(a.create("early"), _task("early", at=AT)))
    while cursor is not None:
        page, cursor = await a.store.human_tasks.list(only_open, limit=10, cursor=cursor)
        seen += [task.id for task in page]
    assert seen == [*tasks, "late"]


async def questions_and_details_come_back_as_they_were(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    pairs = [(question, detail) for question in QUESTIONS for detail in DETAILS]
    await a.moved(
        *(
            _with(a.create(f"run-{number}"), _task(f"{number:02}", question=question, detail=detail))
            for number, (question, detail) in enumerate(pairs)
        )
    )
    listed = await _list(b.store, TaskFilter(), limit=7)
    assert [(task.question, bytes(task.detail)) for task in listed] == pairs
    for number, (question, detail) in enumerate(pairs):
        task = await b.store.human_tasks.get(f"{number:02}")
        assert task is not None
        assert (task.question, bytes(task.detail)) == (question, detail)


async def names_and_filters_may_be_any_text(harness: Harness) -> None:
    """They find what was stored under them, and nothing else."""
    a = await coordinator(harness)
    await a.moved(_with(a.create("bystander"), _task("bystander")))
    names = [text for text in HOSTILE if text]
    for text in names:
        row = TaskRow(id=text, call=text, status=text, question=text, detail=b"{}", at=AT, assignee=text)
        await a.moved(_with(a.create(text, tenant=text, workflow=text), row))
    for text in names:
        task = await a.store.human_tasks.get(text)
        assert task is not None
        assert (task.id, task.run, task.call, task.status, task.tenant, task.assignee) == (text,) * 6
        for where in (
            TaskFilter(tenant=text), TaskFilter(run=text), TaskFilter(status=(text,)), TaskFilter(workflow=text),
            TaskFilter(assignee=text),
        ):  # fmt: skip
            assert await _ids(a.store, where) == [text]


async def what_no_store_can_hold_is_refused(harness: Harness) -> None:
    """By name, nothing of the batch is appended, and the store works on."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    bad = [_task("t", detail=detail) for detail in (b"", b"{not json", b'{"a":"\xff"}', b"{} {}")]
    for text in ("a\x00b", "\ud800"):
        bad += [_task(text), _task("t", question=text), _task("t", status=text), _task("t", assignee=text)]
        await raises(InvalidValue, a.store.human_tasks.get(text))
        for where in (
            TaskFilter(status=(text,)), TaskFilter(tenant=text), TaskFilter(run=text), TaskFilter(workflow=text),
            TaskFilter(assignee=text),
        ):  # fmt: skip
            await raises(InvalidValue, a.store.human_tasks.list(where))
    for row in bad:
        await raises(InvalidValue, a.store.log.append([_with(a.step("run", 1), row), a.create("other")]))
    assert (await a.head("run")).sequence == 1
    assert await a.store.log.heads(["other"]) == {}
    assert await _ids(a.store, TaskFilter()) == []
    await a.moved(_with(a.step("run", 1), _task("t")))


async def a_cursor_that_nobody_gave_is_refused(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(_with(a.create("run"), _task("one"), _task("two")))
    garbage = ("", "garbage", "-1", "1", "' OR 1=1 --", "½", "\x00", "{}", "AAAA", "bnVsbA==", "WzEsMl0=", "W10=")
    for cursor in garbage:
        await raises(InvalidCursor, a.store.human_tasks.list(TaskFilter(), cursor=cursor))
    _, given = await a.store.human_tasks.list(TaskFilter(), limit=1)
    assert given is not None
    await raises(InvalidCursor, a.store.human_tasks.list(TaskFilter(), cursor=given + "x"))


def _task(
    key: str, status: str = "open", at: int = AT, *, question: str = "Well?", detail: bytes = b'{"agent":"billing"}',
    assignee: str | None = None, requested: int = 0,
) -> TaskRow:  # fmt: skip
    return TaskRow(
        id=key, call="ask#1", status=status, question=question, detail=detail, at=at, assignee=assignee,
        requested=requested,
    )  # fmt: skip


def _with(append: Append, *tasks: TaskRow) -> Append:
    append.tasks = tasks
    return append


async def _list(store: Store, where: TaskFilter, *, limit: int = 50) -> list[HumanTask]:
    tasks, cursor = await store.human_tasks.list(where, limit=limit)
    while cursor is not None:
        page, cursor = await store.human_tasks.list(where, limit=limit, cursor=cursor)
        assert 0 < len(page) <= limit
        tasks += page
    return tasks


async def _ids(store: Store, where: TaskFilter) -> list[str]:
    return [task.id for task in await _list(store, where)]


CASES = (
    a_task_is_opened_and_closed_by_appends,
    a_task_knows_where_its_call_was_requested,
    only_another_status_changes_a_task,
    several_tasks_in_one_append,
    a_refused_append_writes_no_task,
    tasks_come_with_families_too,
    the_oldest_come_first,
    a_task_is_given_from_one_to_the_next,
    tasks_are_listed_by_status_tenant_and_run,
    pages_are_complete_and_do_not_overlap,
    questions_and_details_come_back_as_they_were,
    names_and_filters_may_be_any_text,
    what_no_store_can_hold_is_refused,
    a_cursor_that_nobody_gave_is_refused,
)
