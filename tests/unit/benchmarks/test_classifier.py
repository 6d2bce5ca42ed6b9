"""The triage agent's judgement."""

from __future__ import annotations

from benchmarks.triage.classifier import Classifier, accuracy, features, fit
from benchmarks.triage.data import Ticket

TICKETS = [
    Ticket(0, "where is my card", "card_delivery"),
    Ticket(1, "the rate is wrong", "cash"),
    Ticket(2, "the rate of exchange is wrong", "exchange"),
    Ticket(3, "WHERE is my new card?", "card_delivery"),
]


def test_features_are_words_and_pairs_of_neighbours() -> None:
    assert features("Where's my CARD?") == {"where's", "my", "card", "where's my", "my card"}
    assert features("") == set()


def test_it_learns_from_even_rows_alone() -> None:
    classifier = fit(TICKETS)
    assert classifier.specialist("is my card there") == "card_delivery"
    assert classifier.specialist("the rate") == "exchange"  # row 1, which says cash, was not fitted on


def test_words_that_it_does_not_know_leave_it_with_the_most_frequent() -> None:
    classifier = Classifier([*TICKETS[:1], TICKETS[2], Ticket(4, "exchange", "exchange")])
    assert classifier.specialist("quite unheard of") == "exchange"


def test_accuracy_is_scored_on_odd_rows_alone() -> None:
    assert accuracy(fit(TICKETS), TICKETS) == 0.5


def test_nine_of_ten_unseen_tickets_find_their_specialist(real_tickets: list[Ticket]) -> None:
    assert accuracy(fit(real_tickets), real_tickets) >= 0.9
