"""The mailbox: dense numbers, one mail per key, refusals, and a parked run that becomes due."""

from __future__ import annotations

import asyncio
import random

from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import (
    FAR_MS,
    Coordinator,
    coordinator,
    coordinators,
    jitter,
    raises,
)


async def mails_are_numbered_in_order(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    for number in range(1, 6):
        assert await (a, b)[number % 2].post("run", f"key-{number}", b"%d" % number) == number
    mails = await a.store.mailbox.read("run", after=0)
    assert [(mail.number, mail.key, mail.kind, mail.body) for mail in mails] == [
        (number, f"key-{number}", "signal", b"%d" % number) for number in range(1, 6)
    ]
    assert [mail.number for mail in await b.store.mailbox.read("run", after=3)] == [4, 5]
    assert await b.store.mailbox.read("run", after=5) == []
    assert (await b.head("run")).mail == 5


async def mail_is_found_by_its_key(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"), a.create("other"))
    await a.post("run", "yes", b"body")
    mail = await a.store.mailbox.find("run", "yes")
    assert mail is not None
    assert (mail.number, mail.key, mail.kind, mail.body) == (1, "yes", "signal", b"body")
    assert mail.at > 0
    assert await a.store.mailbox.find("run", "no") is None
    assert await a.store.mailbox.find("other", "yes") is None
    assert await a.store.mailbox.find("no such run", "yes") is None
    assert await a.store.mailbox.read("no such run", after=0) == []


async def the_first_of_a_key_wins(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"), a.create("other"))
    await a.post("run", "key", b"first")
    await raises(DuplicateMail, b.post("run", "key", b"second"))
    (mail,) = await a.store.mailbox.read("run", after=0)
    assert mail.body == b"first"
    assert (await a.head("run")).mail == 1
    assert await b.post("run", "next") == 2
    assert await b.post("other", "key") == 1


async def an_unknown_run_takes_no_mail(harness: Harness) -> None:
    a = await coordinator(harness)
    await raises(UnknownRun, a.post("nobody", "key"))
    assert await a.store.mailbox.read("nobody", after=0) == []


async def an_ended_run_takes_no_mail(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(*(a.create(status) for status in ("completed", "failed", "cancelled")))
    for status in ("completed", "failed", "cancelled"):
        ending = a.finish(status, 1)
        ending.status = status
        await a.moved(ending)
        await raises(RunEnded, b.post(status, "late"))
        head = await a.head(status)
        assert (head.mail, head.status, head.wake_at) == (0, status, None)
    assert await b.claim() == []


async def mail_makes_a_parked_run_due(harness: Harness) -> None:
    """Whether it waits for mail alone or for a far timer."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("waits"), a.create("sleeps"))
    await a.moved(a.park("waits", 1), a.park("sleeps", 1, wake_at=a.store.clock.now() + FAR_MS))
    assert await b.claim() == []
    await a.post("waits", "mail")
    await a.post("sleeps", "mail")
    claimed = await b.claim()
    assert sorted((head.id, head.mail, head.epoch) for head in claimed) == [("sleeps", 1, 2), ("waits", 1, 2)]


async def mail_leaves_an_owned_run_with_its_owner(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    await b.post("run", "mail")
    assert await b.claim() == []
    assert (await b.head("run")).owner == a.number


async def a_held_back_run_takes_mail(harness: Harness) -> None:
    """Mail for a stopped or quarantined run is kept, and makes nobody drive it who must not."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("stopped"), a.create("quarantined"))
    for status in ("stopped", "quarantined"):
        held = a.park(status, 1)
        held.status = status
        await a.moved(held)
        assert await b.post(status, "mail") == 1
        assert (await b.head(status)).status == status
    assert await b.claim() == []


async def unread_shows_what_an_owner_missed(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("read"), a.create("half"), a.create("none"), a.create("parked"))
    await b.moved(b.create("of b"))
    for run in ("read", "half", "half", "of b"):
        key = str((await a.head(run)).mail)
        await a.post(run, key)
    await a.moved(a.step("read", 1, folded=1), a.step("half", 1, folded=1), a.park("parked", 1))
    await a.post("parked", "key")
    assert dict(await a.store.mailbox.unread(a.number)) == {"half": 2}
    assert dict(await a.store.mailbox.unread(b.number)) == {"of b": 1}
    await a.moved(a.step("half", 2, folded=2))
    assert dict(await b.store.mailbox.unread(a.number)) == {}


async def folded_mail_stays(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    await a.post("run", "key")
    await a.moved(a.finish("run", 1, folded=1))
    assert len(await a.store.mailbox.read("run", after=0)) == 1
    assert await a.store.mailbox.find("run", "key") is not None


async def concurrent_mails_are_numbered_densely(harness: Harness) -> None:
    """From three stores, with keys that some of them share."""
    senders = await coordinators(harness, 3)
    a = senders[0]
    await a.moved(a.create("run"))
    chance = random.Random(3)

    async def send(sender: Coordinator, key: str) -> int | None:
        await jitter(chance)
        try:
            return await sender.post("run", key)
        except DuplicateMail:
            return None

    keys = [f"key-{number % 25}" for number in range(75)]
    numbers = await asyncio.gather(*(send(senders[index % 3], key) for index, key in enumerate(keys)))
    assert sorted(number for number in numbers if number is not None) == list(range(1, 26))
    mails = await a.store.mailbox.read("run", after=0)
    assert [mail.number for mail in mails] == list(range(1, 26))
    assert len({mail.key for mail in mails}) == 25
    told = {key: number for key, number in zip(keys, numbers, strict=True) if number is not None}
    assert {mail.key: mail.number for mail in mails} == told
    assert (await a.head("run")).mail == 25


CASES = (
    mails_are_numbered_in_order,
    mail_is_found_by_its_key,
    the_first_of_a_key_wins,
    an_unknown_run_takes_no_mail,
    an_ended_run_takes_no_mail,
    mail_makes_a_parked_run_due,
    mail_leaves_an_owned_run_with_its_owner,
    a_held_back_run_takes_mail,
    unread_shows_what_an_owner_missed,
    folded_mail_stays,
    concurrent_mails_are_numbered_densely,
)
