"""What the demo's agents say to each other: pydantic models and nothing else.

Every model crosses the event log as the input or outcome of a call, so each stays small (a few hundred
bytes to 2 KB) and holds plain values only. Ground truth never appears here: no agent can see an answer.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Domain = Literal["airline", "retail", "telecom"]
DOMAINS: tuple[Domain, ...] = ("airline", "retail", "telecom")


class Model(BaseModel):
    """Immutable, and strict about names: an unknown field is an error, not a typo that goes unseen."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ticket(Model):
    """What a customer sends: the line that was called (`domain`) and the words."""

    id: str
    domain: Domain
    text: str = Field(max_length=8_000)


class Facts(Model):
    """Everything in a ticket's text that could be looked up. Found by pattern, not yet verified."""

    user_ids: list[str] = []
    names: list[str] = []
    emails: list[str] = []
    zips: list[str] = []
    phones: list[str] = []
    orders: list[str] = []
    reservations: list[str] = []
    flights: list[str] = []
    cities: list[str] = []
    products: list[str] = []


class Record(Model):
    """One order, reservation or line of a customer; `mentioned` when the ticket speaks of it."""

    id: str
    kind: Literal["order", "reservation", "line"]
    status: str
    about: str
    mentioned: bool = False


class Customer(Model):
    """Who calls, how that was found out, and what the database holds of theirs."""

    user_id: str | None = None
    name: str = ""
    found_by: Literal["user_id", "email", "phone", "name_and_zip", "name", "record", "nothing"] = "nothing"
    records: list[Record] = []

    def mentioned(self, *statuses: str) -> list[Record]:
        """Records that the ticket speaks of, in the order given; all statuses unless some are named."""
        return [r for r in self.records if r.mentioned and (not statuses or r.status in statuses)]


class Urgency(Model):
    """How soon and how gently to answer."""

    level: Literal["low", "normal", "high"]
    upset: bool


class Question(Model):
    """What triage decides on."""

    ticket: Ticket
    customer: Customer


class Verdict(Model):
    """Triage's answer: the capability needed, how sure, and the words that decided it."""

    capability: str
    confidence: float = Field(ge=0, le=1)
    because: list[str] = []


class Case(Model):
    """What a specialist gets."""

    ticket: Ticket
    facts: Facts
    customer: Customer
    verdict: Verdict


class Proposal(Model):
    """What a specialist would do: the action's name, the arguments it found, how sure it is."""

    agent: str
    action: str
    arguments: dict[str, str | list[str]] = {}
    confidence: float = Field(ge=0, le=1)
    summary: str


class Review(Model):
    """What the policy check reads."""

    domain: Domain
    proposal: Proposal
    customer: Customer


class Check(Model):
    """The policy check's answer; `reasons` says which rule spoke against it."""

    allowed: bool
    reasons: list[str] = []


class Draft(Model):
    """What the reply is composed from."""

    customer: Customer
    urgency: Urgency
    proposal: Proposal
    check: Check


class Reply(Model):
    """The words that go back to the customer."""

    text: str


class Resolution(Model):
    """The outcome of a support run."""

    ticket: str
    capability: str
    agent: str
    action: str
    confidence: float
    allowed: bool
    user_id: str | None
    reply: str
