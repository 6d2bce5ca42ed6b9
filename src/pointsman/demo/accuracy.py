"""How well triage selects: scored on the corpus's `test` tickets, against a baseline fixed on `train`.

The rule. A distinct ticket of the test split is right when one of its ground-truth actions that change the
database belongs to the specialist that triage chose. Tickets without such an action (the right answer there
is to refuse, to inform or to hand over to a person) say nothing about which specialist was meant: they are
left out, of the score and of the baseline alike, and counted in `left_out`. A ticket that triage sends to
the generalist is wrong. The baseline answers, in each domain, always with the specialist that is right most
often in that domain's train split, and is scored on the same test tickets. `mean` and `baseline` are means
over the two domains, not over tickets. Telecom is not scored: its few distinct texts appear on both sides.
On the bundled sample the figures prove little, because the same hands wrote its tickets and the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypedDict

from pointsman.demo import lookup
from pointsman.demo.data import Corpus, CorpusTicket, shared
from pointsman.demo.desks import BY_CAPABILITY, BY_DOMAIN, Desk
from pointsman.demo.models import Domain, Question
from pointsman.demo.triage import triage

SCORED: tuple[Domain, ...] = ("airline", "retail")
Chooser = Callable[[CorpusTicket], str]


class Accuracy(TypedDict):
    """Shares between 0 and 1. `baseline` is the mean over both domains, as `mean` is."""

    mean: float
    airline: float
    retail: float
    baseline: float


def selection_accuracy(corpus: Corpus | None = None) -> Accuracy:
    """Triage's accuracy on the test split, with the baseline's."""
    known = corpus or shared()
    score = {domain: accuracy(known.split("test", domain), lambda t: choose(t, known)) for domain in SCORED}
    floor = [baseline(known, domain) for domain in SCORED]
    return Accuracy(
        mean=round(sum(score.values()) / len(SCORED), 3),
        airline=round(score["airline"], 3),
        retail=round(score["retail"], 3),
        baseline=round(sum(floor) / len(SCORED), 3),
    )


def choose(ticket: CorpusTicket, corpus: Corpus) -> str:
    """The capability that a run of this ticket would select, found as the workflow finds it."""
    database = corpus.databases[ticket.domain]
    asked = ticket.as_ticket()
    customer = lookup.identify(ticket.domain, lookup.intake(asked, database), database)
    return triage(Question(ticket=asked, customer=customer)).capability


def scored(tickets: Iterable[CorpusTicket]) -> list[CorpusTicket]:
    return [ticket for ticket in tickets if ticket.writing_actions]


def left_out(corpus: Corpus) -> int:
    """Test tickets of the two domains that are not scored, having no writing action."""
    return sum(not t.writing_actions for domain in SCORED for t in corpus.split("test", domain))


def accuracy(tickets: Iterable[CorpusTicket], choice: Chooser) -> float:
    """The share of scored tickets for which the choice is right; 0 when there are none."""
    asked = scored(tickets)
    return sum(is_right(ticket, choice(ticket)) for ticket in asked) / len(asked) if asked else 0.0


def is_right(ticket: CorpusTicket, capability: str) -> bool:
    desk = BY_CAPABILITY.get(capability)
    return desk is not None and not ticket.writing_actions.isdisjoint(desk.actions)


def baseline(corpus: Corpus, domain: Domain) -> float:
    """The share of test tickets that the train split's most frequent specialist gets right."""
    always = most_frequent(corpus.split("train", domain), domain)
    return accuracy(corpus.split("test", domain), lambda _: always.capability)


def most_frequent(tickets: Iterable[CorpusTicket], domain: Domain) -> Desk:
    """The desk that is right for most of these tickets."""
    right = Counter(desk for ticket in tickets for desk in BY_DOMAIN[domain] if is_right(ticket, desk.capability))
    return max(BY_DOMAIN[domain], key=lambda desk: right[desk])
