"""Listing runs: filters, pages that neither overlap nor leave out, and filters that mean harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointsman.kernel.errors import InvalidCursor, InvalidValue
from pointsman.ports.event_log import Head, RunFilter
from pointsman.ports.store import Store
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import coordinator, coordinators, raises

HOSTILE = (
    "') OR 1=1 --",
    "'; DROP TABLE runs; --",
    "\" OR \"\"=\"",
    "tier' = 'gold' OR 'a",
    "$1",
    "%s%(x)s{0}",
    "a.b[0]->>'c'",
    "\\",
    "%",
    "_",
    "*",
    "",
    "ключ 🚂",
)  # fmt: skip


async def newest_come_first(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    for number in range(4):
        await a.moved(a.create(f"run-{number}"))
        before = a.store.clock.now()
        while a.store.clock.now() <= before:
            await a.head(f"run-{number}")
    assert [head.id for head in await _list(b.store, RunFilter())] == ["run-3", "run-2", "run-1", "run-0"]
    (head,), _ = await b.store.log.list_runs(RunFilter(), limit=1)
    assert head == await b.head("run-3")


async def runs_are_listed_by_status(harness: Harness) -> None:
    a = await coordinator(harness)
    statuses = ("running", "parked", "stopped", "quarantined", "completed", "failed", "cancelled")
    await a.moved(*(a.create(status) for status in statuses))
    for status in statuses[1:]:
        append = a.finish(status, 1)
        append.status = status
        await a.moved(append)
    for status in statuses:
        assert await _ids(a.store, RunFilter(status=(status,))) == [status]
    assert await _ids(a.store, RunFilter(status=("failed", "parked"))) == ["failed", "parked"]
    assert await _ids(a.store, RunFilter()) == sorted(statuses)
    assert await _ids(a.store, RunFilter(status=("nonsense",))) == []


async def runs_are_listed_by_workflow_and_tenant(harness: Harness) -> None:
    a = await coordinator(harness)
    for workflow in ("support", "billing"):
        for tenant in ("acme", "default"):
            await a.moved(a.create(f"{workflow} of {tenant}", workflow=workflow, tenant=tenant))
    assert await _ids(a.store, RunFilter(workflow="billing")) == ["billing of acme", "billing of default"]
    assert await _ids(a.store, RunFilter(tenant="acme")) == ["billing of acme", "support of acme"]
    assert await _ids(a.store, RunFilter(workflow="support", tenant="default")) == ["support of default"]
    both = RunFilter(workflow="support", tenant="acme", status=("completed",))
    assert await _ids(a.store, both) == []


async def runs_are_listed_by_attributes(harness: Harness) -> None:
    a = await coordinator(harness)
    attributes: dict[str, Mapping[str, Any]] = {
        "none": {},
        "gold": {"tier": "gold", "seats": 5},
        "silver": {"tier": "silver", "seats": 5, "trial": True},
        "nested": {"customer": {"id": 7, "tags": ["a", "b"]}, "tier": None},
    }
    await a.moved(*(a.create(run, attributes=given) for run, given in attributes.items()))
    wanted: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["gold", "nested", "none", "silver"]),
        ({"tier": "gold"}, ["gold"]),
        ({"seats": 5}, ["gold", "silver"]),
        ({"seats": 5, "tier": "silver"}, ["silver"]),
        ({"seats": "5"}, []),
        ({"trial": True}, ["silver"]),
        ({"trial": 1}, []),
        ({"tier": None}, ["nested"]),
        ({"missing": None}, []),
        ({"customer": {"id": 7}}, ["nested"]),
        ({"customer": {"tags": ["b"]}}, ["nested"]),
        ({"customer": {"tags": ["c"]}}, []),
        ({"customer": 7}, []),
    ]
    for where, expected in wanted:
        assert await _ids(a.store, RunFilter(attributes=where)) == expected, where


async def pages_are_complete_and_do_not_overlap(harness: Harness) -> None:
    """Runs of one batch share their moment of creation; and new ones come while somebody turns the pages."""
    a = await coordinator(harness)
    runs = [f"run-{number:02}" for number in range(37)]
    await a.moved(*(a.create(run) for run in runs))
    for limit in (1, 5, 36, 37, 50):
        listed = [head.id for head in await _list(a.store, RunFilter(), limit=limit)]
        assert sorted(listed) == runs, limit
    everything = [head.id for head in await _list(a.store, RunFilter())]
    page, cursor = await a.store.log.list_runs(RunFilter(), limit=10)
    await a.moved(a.create("zzz"), a.create("aaa"), a.create("run-05b"))
    seen = [head.id for head in page]
    while cursor is not None:
        page, cursor = await a.store.log.list_runs(RunFilter(), limit=10, cursor=cursor)
        seen += [head.id for head in page]
    assert [run for run in seen if run in runs] == everything
    assert len(seen) == len(set(seen))


async def pages_keep_their_filter(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(
        *(a.create(f"run-{number:02}", tenant=("acme", "other")[number % 2]) for number in range(30)),
    )
    listed = await _list(a.store, RunFilter(tenant="acme"), limit=4)
    assert sorted(head.id for head in listed) == [f"run-{number:02}" for number in range(0, 30, 2)]


async def hostile_filters_are_only_data(harness: Harness) -> None:
    """As keys, as values, as names: they find what was stored under them, and nothing else."""
    a = await coordinator(harness)
    await a.moved(a.create("bystander", attributes={"tier": "gold"}))
    await a.moved(
        *(
            a.create(f"run-{number}", attributes={text: text}, tenant=text, workflow=text)
            for number, text in enumerate(HOSTILE)
        )
    )
    for number, text in enumerate(HOSTILE):
        for where in (
            RunFilter(attributes={text: text}),
            RunFilter(tenant=text),
            RunFilter(workflow=text),
            RunFilter(workflow=text, tenant=text, attributes={text: text}),
        ):
            assert await _ids(a.store, where) == [f"run-{number}"], where
        assert await _ids(a.store, RunFilter(status=(text,))) == []
        assert await _ids(a.store, RunFilter(attributes={text: "gold"})) == []
        assert await _ids(a.store, RunFilter(attributes={"tier": text})) == []
    assert len(await _list(a.store, RunFilter())) == len(HOSTILE) + 1


async def what_no_store_can_hold_is_an_invalid_filter(harness: Harness) -> None:
    a = await coordinator(harness)
    for text in ("a\x00b", "\ud800"):
        for where in (
            RunFilter(tenant=text),
            RunFilter(workflow=text),
            RunFilter(status=(text,)),
            RunFilter(attributes={text: 1}),
            RunFilter(attributes={"key": text}),
        ):
            await raises(InvalidValue, a.store.log.list_runs(where))
    for value in (float("nan"), float("inf"), 2**60):
        await raises(InvalidValue, a.store.log.list_runs(RunFilter(attributes={"key": value})))


async def a_cursor_that_nobody_gave_is_refused(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("one"), a.create("two"))
    garbage = (
        "",
        "garbage",
        "-1",
        "1",
        "' OR 1=1 --",
        "½",
        "\x00",
        "{}",
        "AAAA",
        "bnVsbA==",
        "WzEsMl0=",
        "W10=",
    )
    for cursor in garbage:
        await raises(InvalidCursor, a.store.log.list_runs(RunFilter(), cursor=cursor))
    _, given = await a.store.log.list_runs(RunFilter(), limit=1)
    assert given is not None
    await raises(InvalidCursor, a.store.log.list_runs(RunFilter(), cursor=given + "x"))
    await raises(InvalidCursor, a.store.log.list_runs(RunFilter(), cursor=given[:-3]))


async def _list(store: Store, where: RunFilter, *, limit: int = 50) -> list[Head]:
    heads, cursor = await store.log.list_runs(where, limit=limit)
    while cursor is not None:
        page, cursor = await store.log.list_runs(where, limit=limit, cursor=cursor)
        assert 0 < len(page) <= limit
        heads += page
    return heads


async def _ids(store: Store, where: RunFilter) -> list[str]:
    return sorted(head.id for head in await _list(store, where))


CASES = (
    newest_come_first,
    runs_are_listed_by_status,
    runs_are_listed_by_workflow_and_tenant,
    runs_are_listed_by_attributes,
    pages_are_complete_and_do_not_overlap,
    pages_keep_their_filter,
    hostile_filters_are_only_data,
    what_no_store_can_hold_is_an_invalid_filter,
    a_cursor_that_nobody_gave_is_refused,
)
