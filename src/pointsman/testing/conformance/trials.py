"""Trials: suspects of ending their owners are driven apart, and a death then counts against them and nobody else."""

from __future__ import annotations

from pointsman.ports.ownership import Definition
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    Coordinator,
    coordinator,
    coordinators,
)


async def a_suspect_is_not_taken_over_with_the_others(harness: Harness) -> None:
    """Who got on since the last death is under no suspicion; who did not is tried, one at a time."""
    a, b, c = await coordinators(harness, 3)
    await a.moved(*(a.create(run) for run in ("got on", "suspect", "suspect too")))
    await harness.end(a.number)
    assert len((await b.claim_orphans())[0]) == 3
    assert await c.claim_suspects(9) == []
    await b.moved(b.step("got on", 1, epoch=2))
    await b.moved(b.create("young"))
    await harness.end(b.number)
    heads, left = await c.claim_orphans()
    assert sorted((head.id, head.takeovers) for head in heads) == [("got on", 1), ("young", 1)]
    assert left == 0
    assert [await _tried(c) for _ in range(3)] == [("suspect", 2), ("suspect too", 2), None]
    assert await c.store.ownership.died_on_trial("suspect") == []


async def what_only_notes_is_no_progress(harness: Harness) -> None:
    """Every owner of a run notes anew what it is about to do again; that clears nobody of suspicion."""
    a, b, c = await coordinators(harness, 3)
    await a.moved(a.create("noted"), a.create("got on"))
    await harness.end(a.number)
    assert len((await b.claim_orphans())[0]) == 2
    note = b.step("noted", 1, epoch=2)
    note.is_progress = False
    await b.moved(note, b.step("got on", 1, epoch=2))
    assert [(await b.head(run)).takeovers for run in ("noted", "got on")] == [1, 0]
    begins = b.step("got on", 2, epoch=2, events=2)
    begins.generations, begins.base, begins.is_progress = 1, 4, False
    await b.moved(begins)
    head = await b.head("got on")
    assert (head.sequence, head.base, head.generation, head.takeovers) == (4, 4, 2, 0)
    await harness.end(b.number)
    assert [head.id for head in (await c.claim_orphans())[0]] == ["got on"]
    assert await _tried(c) == ("noted", 2)


async def a_death_during_a_trial_is_the_suspects_alone(harness: Harness) -> None:
    """Those beside it are taken over as if nothing had happened to them before; after the trial they are not."""
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "bad", "beside")
    assert await _tried(c) == ("bad", 2)
    await c.store.ownership.end_trial(c.number)
    assert await _tried(c) == ("beside", 2)
    await c.moved(c.create("young"))
    await harness.end(c.number)
    heads, left = await d.claim_orphans()
    assert (sorted((head.id, head.takeovers) for head in heads), left) == ([("bad", 2), ("young", 0)], 0)
    assert await _tried(d) == ("beside", 3)
    assert await _tried(d) is None
    victims = [(victim.incarnation, victim.name) for victim in await d.store.ownership.died_on_trial("beside")]
    assert victims == [(c.number, "c2")]
    assert await d.store.ownership.died_on_trial("bad") == []


async def a_death_after_a_trial_is_nobodys_alone(harness: Harness) -> None:
    """Also one during the trial of a run that has got on meanwhile."""
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "slow", "well")
    assert await _tried(c) == ("slow", 2)
    assert await _tried(c) == ("well", 2)
    await c.moved(c.step("well", 1, epoch=3), c.create("young"))
    await harness.end(c.number)
    heads, _ = await d.claim_orphans()
    assert sorted((head.id, head.takeovers) for head in heads) == [("well", 1), ("young", 1)]
    assert await _tried(d) == ("slow", 3)
    await d.store.ownership.end_trial(d.number)
    await d.store.ownership.end_trial(d.number)
    last = await coordinator(harness, "last")
    await harness.end(d.number)
    assert await last.claim_suspects(9, definitions=[Definition("support", 2, "x")]) == []
    assert [await _tried(last) for _ in range(4)] == [("well", 2), ("young", 2), ("slow", 4), None]


async def those_with_fewest_deaths_are_tried_first(harness: Harness) -> None:
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "a guilty", "b innocent")
    assert await _tried(c) == ("a guilty", 2)
    await harness.end(c.number)
    assert [await _tried(d), await _tried(d)] == [("b innocent", 2), ("a guilty", 3)]


async def suspects_with_equally_many_deaths_are_tried_together(harness: Harness) -> None:
    """As many as their number of deaths allows: fewer of those that are more suspect."""
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, *(f"r{number}" for number in range(5)))
    assert await _all_tried(c, 9, 4) == [(f"r{number}", 2) for number in range(5)]
    await harness.end(c.number)
    assert await _all_tried(d, 9, 2) == [("r0", 3), ("r1", 3)]
    await d.store.ownership.end_trial(d.number)
    assert await _all_tried(d, 9, 4) == [("r2", 3), ("r3", 3), ("r4", 3)]
    e = await coordinator(harness, "e")
    await harness.end(d.number)
    assert sorted(head.id for head in (await e.claim_orphans())[0]) == ["r0", "r1"]
    assert await _all_tried(e, 9, 1) == [("r2", 4)], "the last number holds for all that have more deaths"
    assert await _all_tried(e, 9, 1) == [("r3", 4)]
    victims = {run: len(await e.store.ownership.died_on_trial(run)) for run in ("r0", "r4")}
    assert victims == {"r0": 1, "r4": 2}


async def of_those_tried_together_who_got_on_is_not_to_blame(harness: Harness) -> None:
    """And once all of them did, nobody is: the next death is everybody's again."""
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "bad", "well", "well too")
    assert len(await _all_tried(c, 9)) == 3
    await c.moved(c.step("well", 1, epoch=3), c.step("well too", 1, epoch=3), c.create("young"))
    await harness.end(c.number)
    heads, left = await d.claim_orphans()
    taken = [("well", 0), ("well too", 0), ("young", 0)]
    assert (sorted((head.id, head.takeovers) for head in heads), left) == (taken, 0)
    assert await _all_tried(d, 9) == [("bad", 3)]
    await d.moved(d.step("bad", 1, epoch=4))
    e = await coordinator(harness, "e")
    await harness.end(d.number)
    heads, _ = await e.claim_orphans()
    assert {(head.id, head.takeovers) for head in heads} == {(run, 1) for run in ("bad", "well", "well too", "young")}


async def who_is_claimed_first_makes_nobody_guilty(harness: Harness) -> None:
    """Whoever tries suspects already may claim the guilty before the others are taken over."""
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "bad", "well")
    assert len(await _all_tried(c, 9)) == 2
    await c.moved(c.create("young"), c.step("well", 1, epoch=3))
    await harness.end(c.number)
    assert await _tried(d) == ("bad", 3)
    await d.store.ownership.end_trial(d.number)
    heads, left = await d.claim_orphans()
    assert (sorted((head.id, head.takeovers) for head in heads), left) == ([("well", 0), ("young", 0)], 0)
    assert [victim.incarnation for victim in await d.store.ownership.died_on_trial("bad")] == [c.number]
    assert await d.store.ownership.died_on_trial("well") == []


async def the_ended_try_nobody(harness: Harness) -> None:
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "run")
    await harness.end(c.number)
    assert await c.claim_suspects(9) == []
    assert await d.store.ownership.died_on_trial("run") == []
    assert await _tried(d) == ("run", 2)
    await harness.end(d.number)
    await d.store.ownership.end_trial(d.number)
    assert len(await a.store.ownership.died_on_trial("run")) == 1, "the dead end no trial"


async def a_released_run_is_due_and_forgiven(harness: Harness) -> None:
    a, b, c, d = await coordinators(harness, 4)
    await _suspects(harness, a, b, "run")
    assert await _tried(c) == ("run", 2)
    await harness.end(c.number)
    assert not await d.store.ownership.release("run"), "it is not quarantined"
    assert await _tried(d) == ("run", 3)
    note = d.park("run", 1, epoch=4)
    note.status, note.closes = "quarantined", False
    await d.moved(note)
    assert await d.claim() == []
    assert not await d.store.ownership.release("nobody")
    assert await d.store.ownership.release("run")
    assert not await d.store.ownership.release("run")
    (head,) = await d.claim()
    assert (head.id, head.epoch, head.takeovers, head.status) == ("run", 5, 0, "running")
    assert await d.store.ownership.died_on_trial("run") == []


async def _suspects(harness: Harness, a: Coordinator, b: Coordinator, *runs: str) -> None:
    """Runs whose owners `a` and `b` died one after the other, without an append."""
    await a.moved(*(a.create(run) for run in runs))
    await harness.end(a.number)
    assert len((await b.claim_orphans())[0]) == len(runs)
    await harness.end(b.number)


async def _all_tried(claimer: Coordinator, *together: int) -> list[tuple[str, int]]:
    return sorted((head.id, head.takeovers) for head in await claimer.claim_suspects(*together))


async def _tried(claimer: Coordinator) -> tuple[str, int] | None:
    """One alone."""
    return next(iter(await _all_tried(claimer, 1)), None)


CASES = (
    a_suspect_is_not_taken_over_with_the_others,
    what_only_notes_is_no_progress,
    a_death_during_a_trial_is_the_suspects_alone,
    a_death_after_a_trial_is_nobodys_alone,
    those_with_fewest_deaths_are_tried_first,
    suspects_with_equally_many_deaths_are_tried_together,
    of_those_tried_together_who_got_on_is_not_to_blame,
    who_is_claimed_first_makes_nobody_guilty,
    the_ended_try_nobody,
    a_released_run_is_due_and_forgiven,
)
