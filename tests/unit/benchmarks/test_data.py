"""The tickets and who is right for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.triage import data
from benchmarks.triage.data import DataDamaged, DataMissing, Ticket


def test_each_of_the_77_intents_has_one_specialist() -> None:
    intents = [intent for of_one in data.INTENTS.values() for intent in of_one]
    assert len(data.SPECIALISTS) == 12
    assert len(intents) == len(set(intents)) == 77


def test_rows_are_read_in_order_with_their_specialist(small_file: Path) -> None:
    tickets = data.load(small_file)
    assert [ticket.row for ticket in tickets] == list(range(77 * 4))
    assert tickets[0] == Ticket(0, "my card arrival, please, 0", "card_delivery")
    assert [ticket.is_fitted_on for ticket in tickets[:3]] == [True, False, True]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"nowhere\.csv is not there; give .* with --data"):
        data.load(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [("a,b\n1,2\n", "columns"), ("text,category\nhello,no_such_intent\n", "row 0 has the intent 'no_such_intent'")],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(DataDamaged, match=message):
        data.load(path)


def test_a_line_break_inside_a_ticket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "broken.csv"
    path.write_text('text,category\n"one\ntwo",card_arrival\n')
    assert data.load(path) == [Ticket(0, "one\ntwo", "card_delivery")]


def test_the_order_is_shuffled_by_the_seed_alone(small_file: Path) -> None:
    tickets = data.load(small_file)
    sent = data.in_order(tickets, 7, 100)
    assert sent == data.in_order(tickets, 7, 100)
    assert sent != data.in_order(tickets, 8, 100)
    assert sent != tickets[:100]
    assert len({ticket.row for ticket in sent}) == 100
    assert sent[:10] == data.in_order(tickets, 7, 10)


@pytest.mark.parametrize("count", [0, 309])
def test_more_tickets_than_there_are_is_refused(small_file: Path, count: int) -> None:
    with pytest.raises(ValueError, match="there are 308"):
        data.in_order(data.load(small_file), 7, count)


def test_nobody_is_right_for_more_than_twelve_percent(real_tickets: list[Ticket]) -> None:
    shares = data.shares(real_tickets)
    assert len(real_tickets) == 10_003
    assert set(shares) == set(data.SPECIALISTS)
    assert max(shares.values()) <= data.SHARE_MAX
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
