"""The record of an agent: decisions on it, and what their events add up to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.agents import record as rec
from pointsman.agents import traffic
from pointsman.agents.card import Card, Health
from pointsman.agents.record import AgentRecord
from pointsman.kernel.errors import UnknownEvent
from pointsman.kernel.events import Event, Recorded
from pointsman.kernel.policy.breaker import Breaker
from pointsman.ports.agents import AgentNotFound, InvalidCard
from pointsman.ports.system_log import new_events

CARD = Card(name="clerk", url="https://clerk.example.org/", capabilities=("billing",))
OTHER = msgspec.structs.replace(CARD, version="2")
POLICY = Health(misses=3, successes=2)


def do(record: AgentRecord, events: Sequence[Event], at: int) -> list[str]:
    for event in events:
        record.evolve(event, at)
    return [type(event).__name__ for event in events]


def trouble(record: AgentRecord, now: int, *, is_own: bool = False) -> str | None:
    problem = record.problem("clerk", now, is_own=is_own, breaker=Breaker())
    return problem.kind if problem is not None else None


def test_a_registration_lasts_until_its_ttl_unless_it_is_renewed() -> None:
    record = AgentRecord()
    assert do(record, rec.register(record, CARD, 1_000, 10), 10) == ["AgentRegistered"]
    assert do(record, rec.register(record, CARD, 1_000, 100), 100) == ["RegistrationRenewed"]
    assert (trouble(record, 1_099), trouble(record, 1_100)) == (None, "departed")
    assert do(record, rec.renew(record, "clerk", 1_000, 1_099), 1_099) == ["RegistrationRenewed"]
    assert (trouble(record, 2_098), trouble(record, 2_099)) == (None, "departed")
    with pytest.raises(AgentNotFound, match="register it again"):
        rec.renew(record, "clerk", 1_000, 2_099)
    assert do(record, rec.register(record, CARD, 1_000, 3_000), 3_000) == ["AgentRegistered"]
    assert trouble(record, 3_500) is None


def test_an_agent_that_left_is_gone_at_once_and_keeps_its_card() -> None:
    record = AgentRecord()
    do(record, rec.register(record, CARD, 1_000, 10), 10)
    assert do(record, rec.leave(record, "deploy\x00", 20), 20) == ["AgentLeft"]
    problem = record.problem("clerk", 21, is_own=False, breaker=Breaker())
    assert problem is not None
    assert (problem.kind, problem.retryable) == ("departed", False)
    assert "clerk has left: deploy\ufffd" in problem.message
    assert record.card == CARD
    assert rec.leave(record, "again", 30) == []
    with pytest.raises(AgentNotFound):
        rec.renew(record, "clerk", 1_000, 30)
    assert rec.leave(AgentRecord(), "who?", 0) == []


def test_a_switch_stays_whatever_the_agent_does() -> None:
    record = AgentRecord()
    do(record, rec.register(record, CARD, 1_000, 10), 10)
    assert do(record, rec.disable(record, "ann", "wrong answers"), 11) == ["AgentDisabled"]
    assert rec.disable(record, "ann", "wrong answers") == []
    do(record, rec.register(record, OTHER, 1_000, 12), 12)
    assert trouble(record, 13) == "disabled"
    assert do(record, rec.enable(record, "ann"), 14) == ["AgentEnabled"]
    assert rec.enable(record, "ann") == []
    assert trouble(record, 15) is None


def test_health_turns_pass_on_when_they_lapse_or_their_holder_is_gone() -> None:
    record = AgentRecord()
    assert do(record, rec.take_health_turn(record, 1, 100, 0), 0) == ["HealthTurnTaken"]
    assert rec.take_health_turn(record, 2, 100, 99) == []
    assert rec.take_health_turn(record, 2, 100, 99, frozenset({1, 2})) == []
    assert rec.take_health_turn(record, 2, 100, 99, frozenset({2})) == [rec.HealthTurnTaken(2, 199)]
    assert rec.take_health_turn(record, 2, 100, 100) == [rec.HealthTurnTaken(2, 200)]
    assert rec.take_health_turn(record, 1, 100, 50) == [rec.HealthTurnTaken(1, 150)]
    assert rec.give_up_health_turn(record, 2, 50) == []
    do(record, rec.give_up_health_turn(record, 1, 50), 50)
    assert rec.give_up_health_turn(record, 1, 50) == []
    assert rec.take_health_turn(record, 2, 100, 50) == [rec.HealthTurnTaken(2, 150)]


def test_verdicts_need_enough_in_a_row_and_the_turn() -> None:
    record = AgentRecord(turn=rec.HealthTurn(1, 100))

    def verdict(misses: int, successes: int, by: int = 1) -> list[str]:
        return do(record, rec.checked(record, POLICY, by, misses=misses, successes=successes, reason="500"), 5)

    assert verdict(2, 0) == []
    assert verdict(3, 0, by=2) == []
    assert verdict(3, 0) == ["AgentUnhealthy"]
    assert verdict(4, 0) == []
    assert (trouble(record, 6, is_own=True), record.health_reason) == ("unhealthy", "500")
    assert verdict(0, 1) == []
    assert verdict(0, 2) == ["AgentHealthy"]
    assert verdict(0, 3) == []
    assert trouble(record, 6, is_own=True) is None


def test_a_verdict_is_of_the_agent_that_was_asked() -> None:
    for card, at, health in ((CARD, 20, "unhealthy"), (OTHER, 20, "unknown"), (CARD, 2_000, "unknown")):
        record = AgentRecord(turn=rec.HealthTurn(1, 100))
        do(record, rec.register(record, CARD, 1_000, 10), 10)
        do(record, rec.checked(record, POLICY, 1, misses=3, successes=0), 15)
        do(record, rec.register(record, card, 1_000, at), at)
        assert record.health == health


def test_an_open_breaker_is_a_problem_until_its_probe_is_due() -> None:
    record = AgentRecord()
    do(record, [traffic.BreakerOpened("9 of 10 calls failed", 500)], 0)
    problem = record.problem("clerk", 499, is_own=True, breaker=Breaker())
    assert problem is not None
    assert (problem.kind, problem.message) == (
        "breaker_open",
        "the circuit breaker of clerk is open: 9 of 10 calls failed",
    )
    assert trouble(record, 500, is_own=True) is None
    do(record, traffic.pin(record.traffic, "open", "ann"), 600)
    assert "pinned by ann" in str(record.problem("clerk", 9_999, is_own=True, breaker=Breaker()))


def test_a_registration_says_nothing_of_an_agent_of_the_app() -> None:
    record = AgentRecord()
    do(record, rec.register(record, CARD, 1_000, 10), 10)
    do(record, rec.leave(record, "", 20), 20)
    assert (trouble(record, 5_000), trouble(record, 5_000, is_own=True)) == ("departed", None)


def test_events_and_states_of_a_newer_release_are_refused() -> None:
    body = msgspec.json.encode(rec.AgentLeft("x"))
    assert rec.read_event(Recorded(1, 0, "AgentLeft", 1, body)) == rec.AgentLeft("x")
    for recorded in (
        Recorded(1, 0, "AgentLeft", 2, body),
        Recorded(1, 0, "AgentSang", 1, body),
        Recorded(1, 0, "AgentLeft", 1, b"[]"),
    ):
        with pytest.raises(UnknownEvent):
            rec.read_event(recorded)
    for state in (b'{"mood":1}', b"[]", b'{"until":"x"}'):
        with pytest.raises(UnknownEvent):
            rec.read_record(state)
    with pytest.raises(UnknownEvent):
        AgentRecord().evolve(Event(), 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (b"", "not JSON"),
        (b"[]", "object"),
        (b'{"url":"https://x.org"}', "name"),
        (b'{"name":"1st","url":"https://x.org"}', "can't name an agent"),
        (b'{"name":"select","url":"https://x.org"}', "can't name an agent"),
        (b'{"name":"../x","url":"https://x.org"}', "can't name an agent"),
        (b'{"name":"a\\u0000","url":"https://x.org"}', "U+0000"),
        (b'{"name":"a"}', "url is missing"),
        (b'{"name":"a","url":"https://x.org","color":"red"}', "color"),
        (b'{"name":"a","url":"https://x.org","timeout":NaN}', "not JSON"),
        (b'{"name":"a","url":"https://x.org","timeout":1e999}', ""),
        (b'{"name":"a","url":"https://x.org","timeout":0}', "timeout"),
        (b'{"name":"a","url":"https://x.org","timeout":true}', "timeout"),
        (b'{"name":"a","url":"https://x.org","concurrency":0}', "concurrency"),
        (b'{"name":"a","url":"https://x.org","rate":-1}', "rate"),
        (b'{"name":"a","url":"https://x.org","cost":{"usd":-1}}', "Cost"),
        (b'{"name":"a","url":"https://x.org","fallback":["a"]}', "own fallback"),
        (b'{"name":"a","url":"https://x.org","fallback":["b c"]}', "names of agents"),
        (b'{"name":"a","url":"https://x.org","retry":{"attempts":0}}', "attempts"),
        (b'{"name":"a","url":"https://x.org","health":{"every":0}}', "every"),
        (b'{"name":"a","url":"https://x.org","description":"' + b"x" * 300_000 + b'"}', "limit"),
        (b'{"name":"a","url":"https://x.org","input_schema":' + b'{"a":' * 200 + b"1" + b"}" * 201, "deeper"),
    ],
)
def test_hostile_cards_are_refused_by_name(change: bytes, said: str) -> None:
    with pytest.raises(InvalidCard) as refused:
        rec.read_card(change)
    assert said in str(refused.value)
    assert len(str(refused.value)) <= rec.REASON_CHARS_MAX


def test_a_card_is_read_as_it_was_sent() -> None:
    assert rec.read_card(msgspec.json.encode(CARD)) == CARD


# -- any sequence of decisions ----------------------------------------------------------------------------------------

ACTIONS = st.tuples(
    st.sampled_from(
        ["register", "other", "renew", "leave", "disable", "enable", "turn", "miss", "well", "open", "pin"]
    ),
    st.integers(1, 3),
    st.integers(0, 400),
    st.integers(0, 3),
)
"""(what, by which incarnation, ms since the one before, how many records ago it was read)."""


def decide(action: str, who: int, record: AgentRecord, now: int) -> Sequence[Event]:
    match action:
        case "register":
            return rec.register(record, CARD, 300, now)
        case "other":
            return rec.register(record, OTHER, 300, now)
        case "renew":
            return rec.renew(record, "clerk", 300, now) if record.is_registered(now) else []
        case "leave":
            return rec.leave(record, "", now)
        case "disable":
            return rec.disable(record, str(who), "")
        case "enable":
            return rec.enable(record, str(who))
        case "turn":
            return rec.take_health_turn(record, who, 500, now)
        case "miss":
            return rec.checked(record, POLICY, who, misses=3, successes=0, reason="x")
        case "well":
            return rec.checked(record, POLICY, who, misses=0, successes=2)
        case "open":
            return [traffic.BreakerOpened("x", now + 100)] if record.traffic.breaker.may_open else []
        case _:
            return traffic.pin(record.traffic, "open", str(who))


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=25))
def test_any_lawful_sequence_folds_to_its_state_and_stale_decisions_never_get_in(
    actions: list[tuple[str, int, int, int]],
) -> None:
    log: list[Recorded] = []
    states = [rec.write_record(AgentRecord())]
    turns: list[tuple[int, rec.HealthTurn]] = []
    now, sequences = 0, [0]
    for action, who, later, stale in actions:
        now += later
        read = max(len(states) - 1 - stale, 0)
        record = rec.read_record(states[read])
        events = decide(action, who, record, now)
        assert rec.write_record(record) == states[read], "a decision changes nothing"
        if not events or sequences[read] != len(log):
            continue  # the store refuses it: its expected sequence is over
        for event, new in zip(events, new_events(events, now), strict=True):
            record.evolve(event, now)
            log.append(Recorded(len(log) + 1, new.at, new.type, new.version, new.body))
            if isinstance(event, rec.HealthTurnTaken):
                turns.append((now, rec.HealthTurn(event.incarnation, event.until)))
        states.append(rec.write_record(record))
        sequences.append(len(log))
    folded = AgentRecord()
    for recorded in log:
        folded.evolve(rec.read_event(recorded), recorded.at)
    assert rec.write_record(folded) == states[-1]
    for (_, before), (at, after) in itertools.pairwise(turns):
        assert after.incarnation == before.incarnation or at >= before.until, "two had the turn at once"
    assert folded.problem("clerk", now, is_own=True, breaker=Breaker()) is None or folded.may_have_problem()
