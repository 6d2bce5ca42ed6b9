"""The demo's workflow: one support run per ticket, seven calls, the specialist selected by capability.

Serve it as `pointsman.demo.workflow:app`. Durable code only: whatever is computed here is a pure function of
what agents answered; look-ups, waiting and the journal are the agents' (see `agents.py`).

    intake ─┬─ identify ─┬─ triage ── specialist or generalist ── policy check ── compose
            └─ assess ───┘
"""

from __future__ import annotations

from pointsman import Run
from pointsman.demo import provoke
from pointsman.demo.agents import Search, app, assess, compose, identify, intake, policy_check, triage
from pointsman.demo.models import Case, Draft, Proposal, Question, Resolution, Review, Ticket

CALLS_PER_TICKET = 7

__all__ = ["CALLS_PER_TICKET", "app", "provoke", "support"]


@app.workflow(version=1)
async def support(run: Run, ticket: Ticket) -> Resolution:
    """From a customer's words to a proposal, checked and put into a reply."""
    facts = await run.call(intake, ticket)
    customer, urgency = await run.gather(
        run.start(identify, Search(**facts.model_dump(), domain=ticket.domain)),
        run.start(assess, ticket),
    )
    verdict = await run.call(triage, Question(ticket=ticket, customer=customer))
    who = await run.select(needs=[verdict.capability])
    case = Case(ticket=ticket, facts=facts, customer=customer, verdict=verdict)
    proposal: Proposal = await run.call(who, case)
    check = await run.call(policy_check, Review(domain=ticket.domain, proposal=proposal, customer=customer))
    reply = await run.call(compose, Draft(customer=customer, urgency=urgency, proposal=proposal, check=check))
    return Resolution(
        ticket=ticket.id,
        capability=verdict.capability,
        agent=who,
        action=proposal.action,
        confidence=proposal.confidence,
        allowed=check.allowed,
        user_id=customer.user_id,
        reply=reply.text,
    )
