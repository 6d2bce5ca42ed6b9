"""Triage's score: above the bars on the test split, and blind to it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pointsman.demo import accuracy
from pointsman.demo.data import Corpus
from pointsman.demo.desks import BY_DOMAIN


def test_triage_is_above_the_bars_on_the_test_split(wheel_corpus: Corpus) -> None:
    found = accuracy.selection_accuracy(wheel_corpus)
    assert found["mean"] >= 0.6
    assert found["mean"] >= found["baseline"] + 0.15
    assert found["mean"] == pytest.approx((found["airline"] + found["retail"]) / 2, abs=0.001)


def test_enough_tickets_are_scored_for_the_figure_to_mean_something(wheel_corpus: Corpus) -> None:
    test = [t for domain in accuracy.SCORED for t in wheel_corpus.split("test", domain)]
    assert len(accuracy.scored(test)) == len(test) - accuracy.left_out(wheel_corpus)
    assert len(accuracy.scored(test)) >= 45


def test_the_baseline_is_chosen_on_train_alone(wheel_corpus: Corpus) -> None:
    """With every answer of the test split replaced, the choice stays; with train's replaced, it moves."""
    for domain in accuracy.SCORED:
        desks = BY_DOMAIN[domain]
        before = accuracy.most_frequent(wheel_corpus.split("train", domain), domain)
        other = next(one for one in desks if one is not before)
        for side, after in (("test", before), ("train", other)):
            changed = replace(
                wheel_corpus,
                tickets=tuple(
                    msgspec.structs.replace(t, actions=other.actions) if t.split == side else t
                    for t in wheel_corpus.tickets
                ),
            )
            assert accuracy.most_frequent(changed.split("train", domain), domain) is after


def test_triage_sees_neither_answers_nor_split(wheel_corpus: Corpus) -> None:
    for ticket in wheel_corpus.split("test", "retail"):
        blind = msgspec.structs.replace(ticket, actions=(), split=None)
        assert accuracy.choose(blind, wheel_corpus) == accuracy.choose(ticket, wheel_corpus)


def test_a_ticket_sent_to_the_generalist_is_wrong_and_one_without_writing_is_not_scored(
    sample: Corpus,
) -> None:
    writing = next(t for t in sample.tickets if t.writing_actions)
    asking = next(t for t in sample.tickets if not t.actions)
    assert accuracy.accuracy([writing, asking], lambda t: f"{t.domain}.enquiry") == 0
    assert accuracy.scored([writing, asking]) == [writing]
    assert accuracy.accuracy([asking], lambda _: "airline.booking") == 0


def test_the_sample_can_be_scored_too(sample: Corpus) -> None:
    assert set(accuracy.selection_accuracy(sample)) == {"mean", "airline", "retail", "baseline"}
