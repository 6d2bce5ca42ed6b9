"""Appends: dense sequences, batches whose parts share no fate, creation, closing, visibility."""

from __future__ import annotations

from pointsman.kernel.errors import RunEnded
from pointsman.ports.event_log import Outcome, Resolution, RunFilter
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    FAR_MS,
    assert_dense,
    coordinator,
    coordinators,
    event,
    nonce,
    raises,
    read_all,
)


async def sequences_are_dense(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run", events=2))
    await a.moved(a.step("run", 2, events=3))
    await a.moved(a.step("run", 5))
    assert_dense(await a.stream("run"), 6)
    assert (await a.head("run")).sequence == 6


async def reads_come_in_pages(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run", events=25))
    assert_dense(await read_all(a.store, "run", page=4), 25)
    page = await a.store.log.read("run", after=20, limit=3)
    assert [recorded.sequence for recorded in page] == [21, 22, 23]
    assert await a.store.log.read("run", after=25) == []
    assert await a.store.log.read("no such run") == []


async def many_streams_are_read_together(harness: Harness) -> None:
    """Each from its own place, to its own limit, and nobody else's: those that were claimed together."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("long", events=7), a.create("short", events=2), a.create("other"))
    await a.moved(a.step("short", 2))
    read = await b.store.log.read_many({"short": 0, "nobody": 0, "long": 2}, limit=3)
    assert read == {
        "short": await b.store.log.read("short"),
        "nobody": [],
        "long": await b.store.log.read("long", after=2, limit=3),
    }
    assert [recorded.sequence for recorded in read["long"]] == [3, 4, 5]
    assert await b.store.log.read_many({"long": 7}, limit=3) == {"long": []}
    assert await b.store.log.read_many({}, limit=3) == {}


async def acknowledged_is_visible_to_others(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    wake_at = a.store.clock.now() + FAR_MS
    await a.moved(a.create("run", tenant="acme", digest="the-digest", attributes={"tier": "gold"}))
    owned = await b.head("run")
    assert (owned.status, owned.owner, owned.epoch, owned.sequence) == ("running", a.number, 1, 1)
    assert (owned.workflow, owned.version, owned.build) == ("support", 1, "build-1")
    assert (owned.tenant, owned.digest, owned.attributes) == ("acme", "the-digest", {"tier": "gold"})
    assert (owned.bucket, owned.parent, owned.ended_at) == (a.store.bucket(), None, None)
    await a.moved(a.park("run", 1, wake_at=wake_at))
    parked = await b.head("run")
    assert (parked.status, parked.owner, parked.wake_at, parked.sequence) == ("parked", None, wake_at, 2)
    assert parked.created_at == owned.created_at <= parked.updated_at
    said = owned.created_at - 12_345
    await a.moved(a.create("older", created_at=said))
    assert (await b.head("older")).created_at == said
    assert_dense(await b.stream("run"), 2)


async def a_batch_moves_many_runs(harness: Harness) -> None:
    a = await coordinator(harness)
    runs = [f"run-{number:03}" for number in range(100)]
    await a.moved(*(a.create(run) for run in runs))
    await a.moved(*(a.step(run, 1, events=1 + number % 5) for number, run in enumerate(reversed(runs))))
    heads = await a.store.log.heads(runs)
    assert sorted(heads) == runs
    for number, run in enumerate(reversed(runs)):
        assert_dense(await a.stream(run), 2 + number % 5)
        assert heads[run].sequence == 2 + number % 5


async def neighbours_of_a_refused_run_move(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    runs = [f"run-{number}" for number in range(12)]
    await a.moved(*(a.create(run) for run in runs))
    await b.take("run-3", a)
    await a.post("run-5", "mail")
    batch = [a.step(run, 1) for run in runs]
    batch[4] = a.step("run-4", 7)
    batch[5] = a.park("run-5", 1)
    batch[6] = a.create("run-6")
    batch[7] = a.step("nobody", 1)
    outcomes = [result.outcome for result in await a.store.log.append(batch)]
    refused = {
        3: Outcome.FENCED,
        4: Outcome.CONFLICT,
        5: Outcome.MAIL_ARRIVED,
        6: Outcome.EXISTS,
        7: Outcome.MISSING,
    }
    assert outcomes == [refused.get(number, Outcome.MOVED) for number in range(12)]
    for number, run in enumerate(runs):
        assert_dense(await a.stream(run), 1 if number in refused else 2)
    assert "nobody" not in await a.store.log.heads(["nobody"])
    assert await a.store.log.read("nobody") == []


async def an_empty_batch_is_nothing(harness: Harness) -> None:
    a = await coordinator(harness)
    assert await a.store.log.append([]) == []


async def a_head_moves_without_events(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    append = a.park("run", 1)
    append.events = []
    await a.moved(append)
    head = await a.head("run")
    assert (head.sequence, head.status, head.owner) == (1, "parked", None)
    assert_dense(await a.stream("run"), 1)


async def created_twice_exists(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run", tenant="first"))
    before = await a.head("run")
    second = b.create("run", tenant="second", events=3)
    second.events = [event(b'"of the second"') for _ in range(3)]
    assert await b.outcome(second) is Outcome.EXISTS
    assert await b.head("run") == before
    (only,) = await b.stream("run")
    assert only.body != b'"of the second"'
    listed, _ = await a.store.log.list_runs(RunFilter())
    assert [head.id for head in listed] == ["run"]


async def created_again_later_exists(harness: Harness) -> None:
    """However far the run has come: sequence 0 is what a creation expects, and the run may stand anywhere."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    await a.moved(a.finish("run", 1))
    assert await a.outcome(a.create("run")) is Outcome.EXISTS
    assert_dense(await a.stream("run"), 2)


async def created_and_ended_at_once(harness: Harness) -> None:
    a = await coordinator(harness)
    append = a.create("run", events=3)
    append.status, append.owner, append.closes = "completed", None, True
    await a.moved(append)
    head = await a.head("run")
    assert (head.status, head.owner, head.sequence) == ("completed", None, 3)
    assert head.ended_at is not None
    assert head.ended_at >= head.created_at
    await raises(RunEnded, a.post("run", "late"))
    assert await a.claim() == []


async def a_missing_run_is_said_to_be(harness: Harness) -> None:
    a = await coordinator(harness)
    assert await a.outcome(a.step("nobody", 0)) is Outcome.MISSING
    assert await a.outcome(a.step("nobody", 3)) is Outcome.MISSING
    assert await a.store.log.heads(["nobody"]) == {}


async def closing_over_unread_mail_is_refused(harness: Harness) -> None:
    """Parking and ending alike: fold what has come and try again."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parks"), a.create("ends"))
    for run in ("parks", "ends"):
        await b.post(run, "one")
        await b.post(run, "two")
    for closing in (a.park("parks", 1, folded=1), a.finish("ends", 1, folded=1)):
        result = await a.append(closing)
        assert (result.outcome, result.mail) == (Outcome.MAIL_ARRIVED, 2)
        assert_dense(await a.stream(closing.run), 1)
        head = await a.head(closing.run)
        assert (head.status, head.owner, head.folded) == ("running", a.number, 0)
    await a.moved(a.park("parks", 1, folded=2), a.finish("ends", 1, folded=2))
    assert (await a.head("parks")).status == "parked"
    ended = await a.head("ends")
    assert (ended.status, ended.folded, ended.mail) == ("completed", 2, 2)


async def an_open_append_tells_of_mail(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await b.post("run", "one")
    await b.post("run", "two")
    (result,) = await a.moved(a.step("run", 1, folded=1))
    assert result.mail == 2
    assert (await a.head("run")).folded == 1


async def resolving_a_lost_reply(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    creation = a.create("run")
    assert await a.store.log.resolve(creation) is Resolution.ABSENT
    await a.moved(creation)
    assert await a.store.log.resolve(creation) is Resolution.OURS
    step = a.step("run", 1, events=3)
    assert await a.store.log.resolve(step) is Resolution.ABSENT
    await a.moved(step)
    assert await a.store.log.resolve(step) is Resolution.OURS
    other = a.step("run", 1)
    assert await a.store.log.resolve(other) is Resolution.OTHERS
    await a.moved(a.finish("run", 4))
    for append in (creation, step):
        assert await b.store.log.resolve(append) is Resolution.OURS
    twin = b.create("run")
    assert await b.outcome(twin) is Outcome.EXISTS
    assert await b.store.log.resolve(twin) is Resolution.OTHERS


async def absent_is_appended_again(harness: Harness) -> None:
    """With the same nonce: were the first still to come, only one of them could move."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    append = a.step("run", 1)
    append.nonce = nonce()
    assert await a.store.log.resolve(append) is Resolution.ABSENT
    await a.moved(append)
    assert await a.outcome(append) is Outcome.CONFLICT
    assert await a.store.log.resolve(append) is Resolution.OURS
    assert_dense(await a.stream("run"), 2)


CASES = (
    sequences_are_dense,
    reads_come_in_pages,
    many_streams_are_read_together,
    acknowledged_is_visible_to_others,
    a_batch_moves_many_runs,
    neighbours_of_a_refused_run_move,
    an_empty_batch_is_nothing,
    a_head_moves_without_events,
    created_twice_exists,
    created_again_later_exists,
    created_and_ended_at_once,
    a_missing_run_is_said_to_be,
    closing_over_unread_mail_is_refused,
    an_open_append_tells_of_mail,
    resolving_a_lost_reply,
    absent_is_appended_again,
)
