"""Ownership: claims raise the epoch, take only what is due or orphaned, and never what another has."""

from __future__ import annotations

from pointsman.ports.event_log import Outcome
from pointsman.ports.ownership import Definition
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    DEFINITION,
    FAR_MS,
    Coordinator,
    coordinator,
    coordinators,
    until,
)


async def a_claim_raises_the_epoch_by_one(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run", epoch=0), a.create("parked", epoch=1))
    await a.moved(a.park("parked", 1, wake_at=1))
    heads = {head.id: head for head in await b.claim()}
    assert (heads["run"].epoch, heads["parked"].epoch) == (1, 2)
    for head in heads.values():
        assert (head.owner, head.status, head.wake_at, head.takeovers) == (b.number, "running", None, 0)
        assert await a.head(head.id) == head
    await b.moved(b.step("run", 1, epoch=1), b.step("parked", 2, epoch=2))


async def only_due_runs_are_claimed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    now = a.store.clock.now()
    waits = {"due": now - 10, "waits for mail": None, "far": now + FAR_MS}
    await a.moved(*(a.create(run) for run in waits), a.create("owned"))
    await a.moved(*(a.park(run, 1, wake_at=wake_at) for run, wake_at in waits.items()))
    assert [head.id for head in await b.claim()] == ["due"]
    assert await b.claim() == []


async def a_timer_comes_due_by_itself(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    wake_at = a.store.clock.now() + 120
    await a.moved(a.park("run", 1, wake_at=wake_at))
    assert await b.claim() == []
    await until(b.claim)
    assert b.store.clock.now() >= wake_at - 10, "claimed before its time"


async def a_claim_takes_no_more_than_asked(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(7)]
    await a.moved(*(a.create(run, epoch=0) for run in runs))
    batches = [await b.claim(limit=3) for _ in range(4)]
    assert [len(batch) for batch in batches] == [3, 3, 1, 0]
    assert sorted(head.id for batch in batches for head in batch) == runs


async def a_claim_can_name_its_runs(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(*(a.create(f"run-{number}", epoch=0) for number in range(5)), a.create("owned"))
    heads = await b.claim("run-1", "run-3", "owned", "nobody")
    assert sorted(head.id for head in heads) == ["run-1", "run-3"]


async def only_known_definitions_are_claimed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(
        a.create("mine", epoch=0),
        a.create("newer", epoch=0, version=2),
        a.create("other", epoch=0, workflow="billing"),
    )
    assert [head.id for head in await b.claim()] == ["mine"]
    both = [Definition("support", 2, "build-1"), Definition("billing", 1, "b")]
    assert sorted(head.id for head in await b.claim(definitions=both)) == ["newer", "other"]
    await a.moved(a.create("again", epoch=0))
    assert await b.store.ownership.claim_due(b.number, [], limit=10) == []


async def stopped_is_due_for_another_build(harness: Harness) -> None:
    """The build that a claim came with is the one that stops the run; it does not get it again."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await _stop(a, "run", 1, 1)
    assert await b.claim() == []
    (head,) = await b.claim(definitions=[Definition("support", 1, "build-2")])
    assert (head.epoch, head.status, head.build) == (2, "running", "build-2")
    await _stop(b, "run", 2, 2)
    assert await b.claim(definitions=[Definition("support", 1, "build-2")]) == []
    assert await b.claim(definitions=[Definition("support", 2, "build-3")]) == []
    (head,) = await b.claim()
    assert (head.epoch, head.build) == (3, "build-1")


async def _stop(owner: Coordinator, run: str, expected: int, epoch: int) -> None:
    stop = owner.park(run, expected, epoch=epoch, wake_at=owner.store.clock.now() - 1)
    stop.status = "stopped"
    await owner.moved(stop)


async def quarantined_is_never_claimed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("due"), a.create("orphan"))
    due, orphan = a.park("due", 1, wake_at=1), a.step("orphan", 1)
    due.status = orphan.status = "quarantined"
    await a.moved(due, orphan)
    await harness.end(a.number)
    assert await b.claim(definitions=[DEFINITION, Definition("support", 1, "build-2")]) == []
    assert await b.claim_orphans() == ([], 0)


async def ended_runs_are_never_claimed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await a.moved(a.finish("run", 1))
    await harness.end(a.number)
    assert await b.claim() == []
    assert await b.claim_orphans() == ([], 0)


async def an_ended_incarnation_claims_nothing(harness: Harness) -> None:
    a, b, c = await coordinators(harness, 3)
    await a.moved(a.create("due", epoch=0))
    await c.moved(c.create("orphan"))
    await harness.end(c.number)
    await harness.end(a.number)
    assert await a.claim() == []
    assert (await a.claim_orphans())[0] == []
    assert [head.id for head in await b.claim()] == ["due"]
    assert [head.id for head in (await b.claim_orphans())[0]] == ["orphan"]


async def only_orphans_are_taken_over(harness: Harness) -> None:
    """Neither the runs of the living nor parked ones, which a death never touches."""
    a, b, c = await coordinators(harness, 3)
    await a.moved(a.create("orphan"), a.create("parked"))
    await a.moved(a.park("parked", 1))
    await b.moved(b.create("of b"))
    parked = await b.head("parked")
    assert await c.claim_orphans() == ([], 0)
    await harness.end(a.number)
    heads, left = await c.claim_orphans()
    assert [(head.id, head.epoch, head.owner, head.status) for head in heads] == [("orphan", 2, c.number, "running")]
    assert left == 0
    assert await b.head("parked") == parked
    assert (await b.head("of b")).owner == b.number
    assert await a.outcome(a.step("orphan", 1, epoch=1)) is Outcome.FENCED
    await c.moved(c.step("orphan", 1, epoch=2))


async def takeovers_are_counted_until_the_next_append(harness: Harness) -> None:
    a, b, c = await coordinators(harness, 3)
    await a.moved(a.create("run"))
    await harness.end(a.number)
    ((head,), _) = await b.claim_orphans()
    assert (head.takeovers, head.epoch) == (1, 2)
    await harness.end(b.number)
    (suspect,) = await c.claim_suspects()
    assert (suspect.id, suspect.takeovers, suspect.epoch, suspect.owner) == ("run", 2, 3, c.number)
    assert await c.head("run") == suspect
    await c.moved(c.step("run", 1, epoch=3))
    assert (await c.head("run")).takeovers == 0


async def orphans_left_are_counted(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(7)]
    await a.moved(*(a.create(run) for run in runs), a.create("newer", version=2))
    await harness.end(a.number)
    taken: list[str] = []
    for expected_left in (4, 1, 0, 0):
        heads, left = await b.claim_orphans(limit=3)
        taken += [head.id for head in heads]
        assert left == expected_left
    assert sorted(taken) == runs
    assert (await b.head("newer")).owner == a.number


async def owned_shows_what_a_lost_reply_hid(harness: Harness) -> None:
    """Every run of this incarnation, however it came to it; neither ended nor parked ones, nor those of others."""
    a, b = await coordinators(harness, 2)
    await a.moved(*(a.create(run) for run in ("kept", "parked", "ended", "given")), a.create("due", epoch=0))
    await b.moved(b.create("of b"))
    await a.moved(a.park("parked", 1), a.finish("ended", 1))
    await b.take("given", a)
    await a.claim("due")
    owned = await b.store.ownership.owned(a.number)
    assert owned == {"due": 1, "kept": 1}
    assert await a.store.ownership.owned(b.number) == {"given": 2, "of b": 1}
    assert await a.store.ownership.hand_over(a.number, owned) == 2
    assert await a.store.ownership.owned(a.number) == {}


async def handed_over_is_due_at_once(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(*(a.create(f"run-{number}") for number in range(4)))
    await b.moved(b.create("of b"))
    assert await a.store.ownership.hand_over(a.number, {"run-0": 1, "of b": 1, "nobody": 1}) == 1
    head = await b.head("run-0")
    assert (head.owner, head.epoch, head.status) == (None, 1, "running")
    assert [(head.id, head.epoch) for head in await b.claim()] == [("run-0", 2)]
    left = await a.store.ownership.owned(a.number)
    assert await a.store.ownership.hand_over(a.number, left) == 3
    assert await a.store.ownership.hand_over(a.number, left) == 0
    assert sorted(head.id for head in await b.claim()) == ["run-1", "run-2", "run-3"]


async def handing_over_spares_ended_and_parked_runs(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("ended"), a.create("parked"))
    await a.moved(a.finish("ended", 1), a.park("parked", 1))
    assert await a.store.ownership.owned(a.number) == {}
    assert await a.store.ownership.hand_over(a.number, {"ended": 1, "parked": 1}) == 0
    assert await b.claim() == []


async def what_was_lost_meanwhile_is_not_handed_over(harness: Harness) -> None:
    """Another has it by now, or had it and the same incarnation claimed it again: it is driven there, under an epoch
    that whoever gives it up does not know of."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("another's"), a.create("again"), a.create("kept"))
    known = await a.store.ownership.owned(a.number)
    await b.take("another's", a)
    await b.take("again", a)
    await a.take("again", b)
    assert await a.store.ownership.hand_over(a.number, known) == 1
    assert await a.store.ownership.owned(a.number) == {"again": 3}
    assert await b.store.ownership.owned(b.number) == {"another's": 2}
    assert [head.id for head in await b.claim()] == ["kept"]
    await a.moved(a.step("again", 1, epoch=3))
    await b.moved(b.step("another's", 1, epoch=2))


async def stranded_names_the_versions_nobody_has(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(
        a.create("known", epoch=0),
        a.create("v2", epoch=0, version=2),
        a.create("v2 again", epoch=0, version=2),
        a.create("parked", version=3),
        a.create("ended", version=4),
    )
    await a.moved(a.park("parked", 1), a.finish("ended", 1))
    stranded = await a.store.ownership.stranded([DEFINITION])
    assert sorted((item.workflow, item.version, item.build) for item in stranded) == [
        ("support", 2, ""),
        ("support", 3, ""),
    ]
    rest = [DEFINITION, Definition("support", 2, "x"), Definition("support", 3, "x")]
    assert await a.store.ownership.stranded(rest) == []


CASES = (
    a_claim_raises_the_epoch_by_one,
    only_due_runs_are_claimed,
    a_timer_comes_due_by_itself,
    a_claim_takes_no_more_than_asked,
    a_claim_can_name_its_runs,
    only_known_definitions_are_claimed,
    stopped_is_due_for_another_build,
    quarantined_is_never_claimed,
    ended_runs_are_never_claimed,
    an_ended_incarnation_claims_nothing,
    only_orphans_are_taken_over,
    takeovers_are_counted_until_the_next_append,
    orphans_left_are_counted,
    owned_shows_what_a_lost_reply_hid,
    handed_over_is_due_at_once,
    handing_over_spares_ended_and_parked_runs,
    what_was_lost_meanwhile_is_not_handed_over,
    stranded_names_the_versions_nobody_has,
)
