"""Who is used, and in which order: pure, with the clock as an argument."""

import pytest

from pointsman.router.membership import Announcement, Membership, StaleIncarnation


def announce(members: Membership, name: str, now: float = 0.0, **more: object) -> None:
    members.announce(Announcement(name, f"{name}:1", **{"incarnation": 1, **more}), now)


def owners(members: Membership) -> dict[bytes, str]:
    keys = [b"run-%d" % n for n in range(600)]
    return {key: members.pick(key, (), 0.0).name for key in keys}


def test_removing_one_coordinator_moves_only_its_runs():
    members = Membership()
    for name in ("a", "b", "c"):
        announce(members, name)
    before = owners(members)
    announce(members, "b", leaving=True)
    after = owners(members)
    assert {name: 100 < list(before.values()).count(name) < 300 for name in "abc"} == dict.fromkeys("abc", True)
    assert {key for key in before if before[key] != after[key]} == {k for k in before if before[k] == "b"}


def test_silence_ends_use_and_is_told_once():
    members = Membership(silent_s=2)
    announce(members, "a", 10.0)
    assert members.pick(b"k", (), 11.9) is not None
    assert members.pick(b"k", (), 12.0) is None
    assert [m.name for m in members.fallen_silent(12.0)] == ["a"]
    assert members.fallen_silent(12.1) == []
    assert members.rows(12.0)[0]["state"] == "silent"


def test_who_said_that_it_leaves_did_not_fall_silent():
    members = Membership(silent_s=2, forget_s=60)
    announce(members, "a", 10.0)
    announce(members, "a", 11.0, leaving=True)
    assert members.fallen_silent(20.0) == []
    assert members.rows(20.0)[0]["state"] == "leaving"
    announce(members, "a", 21.0, incarnation=2)
    assert [m.name for m in members.fallen_silent(23.0)] == ["a"]
    announce(members, "a", 24.0, incarnation=2, leaving=True)
    assert members.fallen_silent(84.0) == []
    assert members.rows(84.0) == []


def test_after_a_refusal_one_probe_at_a_time():
    members = Membership(static=["a:1"], down_s=0.5)
    member = members.pick(b"k", (), 0.0)
    members.refused(member, 0.0)
    assert members.pick(b"k", (), 0.4) is None
    assert members.pick(b"k", (), 0.5) is member
    assert members.pick(b"k", (), 0.6) is None
    members.answered(member)
    assert members.pick(b"k", (), 0.6) is member


def test_an_older_incarnation_is_refused_while_the_newer_lives():
    members = Membership()
    announce(members, "a", 0.0, incarnation=2)
    with pytest.raises(StaleIncarnation):
        announce(members, "a", 1.0, incarnation=1)
    announce(members, "a", 9.0, incarnation=1)
    assert members.rows(9.0)[0]["incarnation"] == 1


def test_who_announces_itself_and_does_not_answer_is_used_only_if_nobody_does():
    members = Membership(static=["s:1"], silent_s=2)
    announce(members, "a")
    announce(members, "b")
    a, b, static = members.probed(0.0)
    a.unanswered = True
    assert {members.pick(b"%d" % n, (), 0.0) for n in range(50)} == {b, static}
    assert members.rows(0.0)[0]["state"] == "silent"
    b.unanswered = static.unanswered = True
    assert not members.anybody_answers(0.0)
    assert {members.pick(b"%d" % n, (), 0.0) for n in range(50)} == {a, b}, "all are slow"
    announce(members, "a", incarnation=2)
    assert {members.pick(b"%d" % n, (), 0.0) for n in range(50)} == {a}, "a new process has not failed to answer"
    assert members.anybody_answers(0.0)
