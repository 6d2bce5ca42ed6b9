"""The work around a specialist's: how urgent, is it allowed, what to reply; and the generalist's answer.

Plain functions; the policies are a readable few of each domain's, enough that some proposals are refused.
"""

from __future__ import annotations

import re

from pointsman.demo.desks import TRANSFER
from pointsman.demo.models import Case, Check, Draft, Proposal, Record, Reply, Review, Ticket, Urgency
from pointsman.demo.proposing import propose

_UPSET = re.compile(r"\b(?:angry|upset|frustrat\w+|complain\w*|unacceptable|ridiculous|bad mood|insist\w*)\b")
_URGENT = re.compile(r"\b(?:urgent|asap|as soon as possible|right away|immediately|today|rush|damaged|no service)\b")
_RELAXED = re.compile(r"\b(?:wonder|would like to know|want to know|no hurry|whenever)\b")

# action -> the status that the records it touches must have
_NEEDS = {
    "cancel_pending_order": "pending",
    "modify_pending_order_items": "pending",
    "modify_pending_order_payment": "pending",
    "modify_pending_order_address": "pending",
    "return_delivered_order_items": "delivered",
    "exchange_delivered_order_items": "delivered",
    "cancel_reservation": "upcoming",
    "update_reservation_flights": "upcoming",
    "update_reservation_baggages": "upcoming",
    "update_reservation_passengers": "upcoming",
}


def assess(ticket: Ticket) -> Urgency:
    text = ticket.text.lower()
    upset = _UPSET.search(text) is not None
    if upset or _URGENT.search(text):
        return Urgency(level="high", upset=upset)
    return Urgency(level="low" if _RELAXED.search(text) else "normal", upset=False)


def generalist(case: Case) -> Proposal:
    """What is left when no specialist fits: an answer from the customer's records, or a person."""
    if not case.customer.records:
        return propose("generalist", TRANSFER, {}, 0.3, "Nothing of the customer's was found; a person should look.")
    shown = case.customer.mentioned() or case.customer.records[:3]
    summary = "; ".join(f"{record.id}: {record.about} ({record.status})" for record in shown)
    return propose("generalist", "answer", {"records": [record.id for record in shown]}, 0.5, summary)


def policy_check(review: Review) -> Check:
    """Refuses what the records forbid, and lets a person decide nothing here: reasons are for the reply."""
    proposal, reasons = review.proposal, []
    touched = _touched(review)
    needed = _NEEDS.get(proposal.action)
    if needed:
        reasons += [f"{one.id} is {one.status}, not {needed}" for one in touched if one.status != needed]
    if proposal.action == "cancel_reservation":
        reasons += [f"{one.id} is neither insured nor business" for one in touched if not _refundable(one)]
    if proposal.action == "update_reservation_flights":
        reasons += [f"{one.id} is basic economy" for one in touched if "basic_economy" in one.about]
    if proposal.action == "send_certificate" and proposal.arguments.get("amount_usd") == "0":
        reasons.append("no delay or cancellation was found")
    if review.customer.user_id is None and proposal.action != TRANSFER:
        reasons.append("the customer is not identified")
    return Check(allowed=not reasons, reasons=reasons)


def _touched(review: Review) -> list[Record]:
    ids: set[str] = set()
    for key in ("order_id", "reservation_id"):
        value = review.proposal.arguments.get(key, [])
        ids.update([value] if isinstance(value, str) else value)
    return [record for record in review.customer.records if record.id in ids]


def _refundable(record: Record) -> bool:
    return " business," in record.about or "not insured" not in record.about


def compose(draft: Draft) -> Reply:
    """The reply, from parts; no model wrote it."""
    name = draft.customer.name.split(" ")[0] or "there"
    opening = f"Hello {name}, I am sorry for the trouble." if draft.urgency.upset else f"Hello {name},"
    if draft.proposal.action == TRANSFER:
        return Reply(text=f"{opening} I am handing you to a colleague. {draft.proposal.summary}")
    if not draft.check.allowed:
        return Reply(text=f"{opening} I can't do this: {'; '.join(draft.check.reasons)}.")
    if draft.proposal.action == "answer":
        return Reply(text=f"{opening} this is what I found. {draft.proposal.summary}")
    return Reply(text=f"{opening} shall I go on? {draft.proposal.summary}")
