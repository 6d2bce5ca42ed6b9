"""Children: created with their parent's append or not at all, and their end told to it exactly once."""

from __future__ import annotations

from pointsman.kernel.errors import DuplicateMail
from pointsman.ports.event_log import Outcome
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import coordinator, coordinators, letter, raises


async def a_child_comes_with_its_parents_append(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("parent"))
    children = [a.create(f"child-{number}", epoch=0, parent="parent", parent_call="c") for number in range(3)]
    await a.moved(children[0], a.step("parent", 1, events=3), *children[1:])
    for number in range(3):
        head = await a.head(f"child-{number}")
        assert (head.parent, head.sequence, head.owner, head.epoch) == ("parent", 1, None, 0)
    assert len(await a.claim()) == 3


async def a_child_may_come_with_its_parents_creation(harness: Harness) -> None:
    """In any order within the batch; and not when the parent turns out to exist."""
    a = await coordinator(harness)
    await a.moved(a.create("child 1", epoch=0, parent="parent"), a.create("parent"))
    results = await a.store.log.append([a.create("parent"), a.create("child 2", epoch=0, parent="parent")])
    assert [result.outcome for result in results] == [Outcome.EXISTS, Outcome.MISSING]
    assert sorted(await a.store.log.heads(["child 1", "child 2"])) == ["child 1"]


async def no_child_of_a_parent_that_did_not_move(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("fenced"), a.create("mailed"))
    await b.take("fenced", a)
    await b.post("mailed", "mail")
    results = await a.store.log.append(
        [
            a.create("of fenced", epoch=0, parent="fenced"),
            a.step("fenced", 1, epoch=1),
            a.park("mailed", 1),
            a.create("of mailed", epoch=0, parent="mailed"),
            a.create("of nobody", epoch=0, parent="nobody"),
            a.step("nobody", 1),
        ]
    )
    assert [result.outcome for result in results] == [
        Outcome.MISSING, Outcome.FENCED, Outcome.MAIL_ARRIVED,
        Outcome.MISSING, Outcome.MISSING, Outcome.MISSING,
    ]  # fmt: skip
    children = ["of fenced", "of mailed", "of nobody"]
    assert await a.store.log.heads(children) == {}
    assert [await a.stream(child) for child in children] == [[], [], []]


async def no_child_without_its_parent(harness: Harness) -> None:
    """The parent is there, but is no part of the batch."""
    a = await coordinator(harness)
    await a.moved(a.create("parent"))
    assert await a.outcome(a.create("child", parent="parent")) is Outcome.MISSING
    assert await a.store.log.heads(["child"]) == {}


async def a_child_that_exists_leaves_its_parent_alone(harness: Harness) -> None:
    a = await coordinator(harness)
    await a.moved(a.create("parent"), a.create("child"))
    before = await a.head("child")
    results = await a.store.log.append([a.step("parent", 1), a.create("child", epoch=0, parent="parent")])
    assert [result.outcome for result in results] == [Outcome.MOVED, Outcome.EXISTS]
    assert await a.head("child") == before
    assert len(await a.stream("child")) == 1


async def a_childs_end_reaches_an_owned_parent_once(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"))
    await a.moved(a.step("parent", 1), a.create("child", parent="parent"))
    ending = a.finish("child", 1, letter=letter("parent", "child", b'{"status":"completed"}'))
    await a.moved(ending)
    assert await a.outcome(ending) is Outcome.CONFLICT
    (mail,) = await b.store.mailbox.read("parent", after=0)
    assert (mail.number, mail.key, mail.kind) == (1, "child/child", "child")
    assert mail.body == b'{"status":"completed"}'
    assert dict(await b.store.mailbox.unread(a.number)) == {"parent": 1}
    assert await a.outcome(a.park("parent", 2)) is Outcome.MAIL_ARRIVED
    await a.moved(a.park("parent", 2, folded=1))


async def a_childs_end_wakes_a_parked_parent(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"))
    await a.moved(a.step("parent", 1), a.create("child", parent="parent"))
    await a.moved(a.park("parent", 2))
    assert await b.claim() == []
    await a.moved(a.finish("child", 1, letter=letter("parent", "child")))
    (head,) = await b.claim()
    assert (head.id, head.mail, head.folded) == ("parent", 1, 0)


async def many_children_end_in_one_batch(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await b.moved(b.create("parent"), b.create("other"))
    children = [f"child-{number:02}" for number in range(20)]
    for parent in ("parent", "other"):
        await b.moved(b.step(parent, 1), *(b.create(f"{parent}/{run}", parent=parent) for run in children))
    endings = [
        b.finish(f"{parent}/{run}", 1, letter=letter(parent, run)) for run in children for parent in ("parent", "other")
    ]
    await b.moved(*endings)
    for parent in ("parent", "other"):
        mails = await a.store.mailbox.read(parent, after=0)
        assert [mail.number for mail in mails] == list(range(1, 21))
        assert sorted(mail.key for mail in mails) == [f"child/{run}" for run in children]
        assert (await a.head(parent)).mail == 20
    assert await b.outcome(b.finish("parent", 2, folded=19)) is Outcome.MAIL_ARRIVED
    await b.moved(b.finish("parent", 2, folded=20))


async def a_refused_child_tells_nothing(harness: Harness) -> None:
    """Fenced, in conflict, or with mail of its own: neither its end nor the letter happened."""
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"))
    names = ("fenced", "conflict", "mailed", "good")
    await a.moved(a.step("parent", 1), *(a.create(name, parent="parent") for name in names))
    await a.moved(a.park("parent", 2))
    await b.take("fenced", a)
    await b.post("mailed", "mail")
    results = await a.store.log.append(
        [a.finish(name, 5 if name == "conflict" else 1, letter=letter("parent", name)) for name in names]
    )
    assert [result.outcome for result in results] == [
        Outcome.FENCED, Outcome.CONFLICT, Outcome.MAIL_ARRIVED, Outcome.MOVED,
    ]  # fmt: skip
    (mail,) = await a.store.mailbox.read("parent", after=0)
    assert (mail.number, mail.key) == (1, "child/good")
    assert (await a.head("parent")).mail == 1


async def a_refused_child_wakes_nobody(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("parent"))
    await a.moved(a.step("parent", 1), a.create("child", parent="parent"))
    await a.moved(a.park("parent", 2))
    await b.take("child", a)
    assert await a.outcome(a.finish("child", 1, letter=letter("parent", "child"))) is Outcome.FENCED
    assert await b.claim() == []
    assert (await b.head("parent")).mail == 0


async def a_letter_that_cannot_arrive_holds_nobody(harness: Harness) -> None:
    """To an ended parent, to no run at all, under a key that the parent has: the child ends all the same."""
    a = await coordinator(harness)
    await a.moved(a.create("ended"), a.create("has"), *(a.create(f"child-{number}") for number in range(4)))
    await a.moved(a.finish("ended", 1))
    await a.post("has", "child/x", b"first")
    await a.moved(
        a.finish("child-0", 1, letter=letter("ended", "0")),
        a.finish("child-1", 1, letter=letter("nobody", "1")),
        a.finish("child-2", 1, letter=letter("has", "x", b"second")),
        a.finish("child-3", 1, letter=letter("has", "y")),
    )
    assert (await a.head("ended")).mail == 0
    assert await a.store.mailbox.read("ended", after=0) == []
    assert await a.store.mailbox.read("nobody", after=0) == []
    mails = await a.store.mailbox.read("has", after=0)
    assert [(mail.number, mail.key) for mail in mails] == [(1, "child/x"), (2, "child/y")]
    assert mails[0].body == b"first"
    await a.moved(a.finish("has", 1, folded=2))


async def two_letters_of_one_key_are_one(harness: Harness) -> None:
    """In one batch, where neither can see that the other has come."""
    a = await coordinator(harness)
    await a.moved(a.create("parent"), a.create("one"), a.create("two"))
    await a.moved(
        a.finish("one", 1, letter=letter("parent", "same")),
        a.finish("two", 1, letter=letter("parent", "same")),
    )
    (mail,) = await a.store.mailbox.read("parent", after=0)
    assert mail.number == 1
    assert (await a.head("parent")).mail == 1
    await raises(DuplicateMail, a.post("parent", "child/same"))
    assert await a.post("parent", "next") == 2


CASES = (
    a_child_comes_with_its_parents_append,
    a_child_may_come_with_its_parents_creation,
    no_child_of_a_parent_that_did_not_move,
    no_child_without_its_parent,
    a_child_that_exists_leaves_its_parent_alone,
    a_childs_end_reaches_an_owned_parent_once,
    a_childs_end_wakes_a_parked_parent,
    many_children_end_in_one_batch,
    a_refused_child_tells_nothing,
    a_refused_child_wakes_nobody,
    a_letter_that_cannot_arrive_holds_nobody,
    two_letters_of_one_key_are_one,
)
