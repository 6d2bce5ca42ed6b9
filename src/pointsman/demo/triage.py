"""Triage: from a ticket's words, and the state of the records it speaks of, to the capability it needs.

Rules written by hand after reading the `train` tickets, and no others; nothing is fitted. Each rule gives its
weight once to one desk. Records matter because customers say "exchange" for what the shop, before delivery,
calls a change. The domain is given (it is the line that was called), so a ticket only competes among the four
desks of its domain; when no rule speaks, it needs an enquiry, which no specialist offers: the generalist's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from pointsman.demo.desks import BY_DOMAIN, ENQUIRY
from pointsman.demo.models import Customer, Domain, Question, Verdict

Where = Literal["any", "delivered", "undelivered"]


@dataclass(frozen=True)
class Rule:
    """`weight` for `desk` when the words occur and the records spoken of are `where` the rule applies."""

    desk: str
    weight: float
    words: re.Pattern[str]
    where: Where = "any"


def _rule(desk: str, weight: float, words: str, where: Where = "any") -> Rule:
    return Rule(desk, weight, re.compile(rf"\b(?:{words})\b"), where)


RULES: dict[Domain, tuple[Rule, ...]] = {
    "airline": (
        _rule(
            "booking",
            4,
            r"(?:want|like|need|help|how) (?:me )?to (?:book|fly)|book (?:a|an|me|another|new)",
        ),
        _rule("booking", 1.5, r"one[- ]way|new (?:flight|trip|reservation|booking)"),
        _rule("cancellation", 4, r"cancel|cancelling|canceling|cancellation"),
        _rule(
            "cancellation",
            2.5,
            r"mix-?up|(?:two|multiple|several) (?:flights|reservations) for the same day|call off",
        ),
        _rule("cancellation", 1, r"refund|money back|can(?:'t|not) (?:make|travel)|no longer"),
        _rule("changes", 3, r"change|changing|modify|switch|rebook|push back|move|postpone|reschedule|update"),
        _rule(
            "changes",
            3,
            r"upgrade|downgrade|remove (?:a )?passenger|passenger name"
            r"|add (?:\w+ ){0,3}(?:bags?|baggage|luggage|suitcases?)",
        ),
        _rule("changes", 1, r"nonstop|non-stop|earlier flight|later flight|business class|bags?|suitcases?|seat"),
        _rule("compensation", 4, r"complain|compensat\w+|delayed|delay|voucher|certificate for"),
        _rule("compensation", 1.5, r"frustrated|upset|missed|was cancel?led|inconvenience"),
    ),
    "retail": (
        _rule("cancellation", 3.5, r"cancel|cancelling|canceling|cancellation"),
        _rule("cancellation", 1, r"no longer (?:need|want)\w*|by mistake|pending orders"),
        _rule("changes", 3.5, r"modify|modifying|switch|upgrade|split the payment|adjust|edit"),
        _rule("changes", 2, r"change|changing|update|correct"),
        _rule("changes", 3, r"address|deliver it to|ship it to"),
        _rule("changes", 4, r"exchange|exchanging|swap|replace", "undelivered"),
        _rule("changes", 1, r"pending|just (?:ordered|placed)"),
        _rule("cancellation", 3, r"return|returning|send (?:\w+ )?back", "undelivered"),
        _rule("returns", 4, r"return|returning|send (?:\w+ )?back", "delivered"),
        _rule("returns", 1, r"refund|money back|damaged|broken|only need one"),
        _rule("exchanges", 4, r"exchange|exchanging|exchanged|swap|replace\w*", "delivered"),
        _rule("exchanges", 1.5, r"exchange|exchanged|swap"),
        _rule(
            "exchanges",
            1.5,
            r"received|arrived|bigger|smaller|too (?:big|small|tight|large)|new pair",
            "delivered",
        ),
    ),
    "telecom": (
        _rule("data", 3, r"mobile data|internet|slow|speed|roaming|hotspot|gigabytes?|gb|data allowance|refuel"),
        _rule("service", 4, r"no service|signal|sim|airplane mode|no bars|network at all|reception"),
        _rule("messaging", 4, r"mms|sms|picture messages?|text messages?|messaging|send (?:photos|pictures)"),
        _rule("billing", 4, r"bill|bills|billed|invoice|charged?|overdue|payment|suspended|paid|pay"),
    ),
}


def triage(question: Question) -> Verdict:
    """The capability with the greatest weight; at a tie the desk that stands first in the roster."""
    ticket = question.ticket
    text = ticket.text.lower()
    places = _where(question.customer)
    weights = {desk.name: 0.0 for desk in BY_DOMAIN[ticket.domain]}
    because: list[str] = []
    for rule in RULES[ticket.domain]:
        hit = rule.words.search(text) if rule.where in places else None
        if hit:
            weights[rule.desk] += rule.weight
            because.append(f"{rule.desk}: {hit.group()}")
    best = max(weights, key=lambda name: weights[name])
    if weights[best] == 0:
        return Verdict(capability=f"{ticket.domain}.{ENQUIRY}", confidence=0.25)
    share = math.exp(weights[best]) / sum(math.exp(weight) for weight in weights.values())
    return Verdict(capability=f"{ticket.domain}.{best}", confidence=round(share, 3), because=because[:8])


def _where(customer: Customer) -> frozenset[Where]:
    """Where the goods are that the ticket speaks of; of all the customer's, when it names none."""
    records = [r for r in customer.mentioned() or customer.records if r.kind == "order"]
    states = {record.status for record in records}
    found: set[Where] = {"any"}
    if not records or "delivered" in states:
        found.add("delivered")
    if states & {"pending", "processed"} and "delivered" not in states:
        found.add("undelivered")
    return frozenset(found)
