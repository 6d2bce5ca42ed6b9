"""The store itself: opened, closed, and what it says when it is closed."""

from __future__ import annotations

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.event_log import RunFilter
from pointsman.ports.human_tasks import TaskFilter
from pointsman.ports.inspection import Cut
from pointsman.ports.states import NO_STATE
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import DEFINITION, TTL_MS, coordinator, coordinators, event, raises


async def closing_twice_is_once(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.store.close()
    await a.store.close()
    await harness.new_store().close()


async def a_closed_store_says_so(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    step = a.step("run", 1)
    await a.store.close()
    store = a.store
    for action in (
        lambda: store.log.append([step]),
        lambda: store.log.resolve(step),
        lambda: store.log.read("run"),
        lambda: store.log.read_many({"run": 0}, limit=1),
        lambda: store.log.heads(["run"]),
        lambda: store.log.list_runs(RunFilter()),
        store.log.feed,
        lambda: store.mailbox.post("run", "key", "signal", b"{}"),
        lambda: store.mailbox.read("run", after=0),
        lambda: store.mailbox.find("run", "key"),
        lambda: store.mailbox.unread(a.number),
        lambda: store.ownership.claim_due(a.number, [DEFINITION], limit=1),
        lambda: store.ownership.claim_orphans(a.number, [DEFINITION], limit=1),
        lambda: store.ownership.claim_suspects(a.number, [DEFINITION], together=[1]),
        lambda: store.ownership.end_trial(a.number),
        lambda: store.ownership.died_on_trial("run"),
        lambda: store.ownership.release("run"),
        lambda: store.ownership.owned(a.number),
        lambda: store.ownership.hand_over(a.number, {"run": 1}),
        lambda: store.ownership.stranded([DEFINITION]),
        store.liveness.members,
        lambda: store.system.append("mode", 0, [event()], b"{}"),
        lambda: store.system.head("mode"),
        lambda: store.system.heads(""),
        lambda: store.system.changes(""),
        lambda: store.system.read("mode"),
        lambda: store.board.publish(a.number, b""),
        lambda: store.human_tasks.get("task"),
        lambda: store.states.of(["run"]),
        lambda: store.states.rewrite("run", 1, 1, NO_STATE),
        lambda: store.human_tasks.list(TaskFilter()),
        lambda: store.notices.take(limit=1, hold_ms=1),
        lambda: store.notices.postpone("n", tries=1, delay_ms=1),
        lambda: store.notices.settle(["n"]),
        lambda: store.reservations.of("tranche"),
        lambda: store.reservations.forget("tranche"),
        store.inspection.facts,
        lambda: store.inspection.mail_counts(limit=1),
        lambda: store.inspection.orphans(limit=1),
        lambda: store.inspection.strays(limit=1),
        lambda: store.inspection.moved_away("run"),
        lambda: store.inspection.recount_mail("run", 1),
        lambda: store.inspection.cut(Cut("run", 1, 1, 0, 0, event(), "bad")),
        store.retention.buckets,
        lambda: store.retention.past(1),
        lambda: store.retention.delete(1, limit=1),
        lambda: store.retention.move(1, limit=1),
        lambda: store.retention.drop(1),
        lambda: store.liveness.register("new", "", [DEFINITION], ttl_ms=TTL_MS),
    ):
        await raises(StoreUnavailable, action())
    assert (await b.head("run")).sequence == 1


async def what_was_written_outlives_the_store(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run", events=3))
    await a.post("run", "key")
    await a.store.close()
    other = await harness.open()
    assert len(await other.log.read("run")) == 3
    assert (await other.log.heads(["run"]))["run"].mail == 1


async def a_store_describes_itself(harness: Harness) -> None:
    store = await harness.open()
    assert store.description
    assert "password" not in store.description


async def stores_agree_on_time_and_bucket(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    assert a.store.bucket() == b.store.bucket() >= 0
    assert abs(a.store.clock.now() - b.store.clock.now()) < 1_000
    await a.moved(a.create("run"))
    head = await b.head("run")
    assert abs(head.created_at - b.store.clock.now()) < 10_000
    readings = [b.store.clock.now() for _ in range(100)]
    assert readings == sorted(readings)


CASES = (
    closing_twice_is_once,
    a_closed_store_says_so,
    what_was_written_outlives_the_store,
    a_store_describes_itself,
    stores_agree_on_time_and_bucket,
)
