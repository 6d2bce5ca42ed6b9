"""The demo's agents as the engine sees them: twelve specialists, a generalist, six that every ticket meets.

Each only joins three things: the journal (outside the engine), a simulated model latency, and a plain
function that does the work. An agent needs its idempotency key for the first two, so each takes the call's
context.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from pointsman import App, Breaker, Context, Retry
from pointsman.demo import airline, desk, failing, lookup, retail, telecom
from pointsman.demo import triage as rules
from pointsman.demo.data import Database, ready
from pointsman.demo.journal import recorded
from pointsman.demo.latency import think
from pointsman.demo.models import (
    Case,
    Check,
    Customer,
    Domain,
    Draft,
    Facts,
    Proposal,
    Question,
    Reply,
    Review,
    Ticket,
    Urgency,
    Verdict,
)

app = App("demo", generalist="generalist")

TIMEOUT_S = 10.0
RETRY = Retry(attempts=4, base=0.2)
BREAKER = Breaker(window=10, calls_min=8, open_for=2)
"""Small numbers: the demo lasts seconds, and each specialist gets a twelfth of its tickets."""


@contextlib.asynccontextmanager
async def at_work(agent: str, ctx: Context) -> AsyncIterator[None]:
    """One attempt of one agent: its start in the journal, its model's latency, its end in the journal."""
    async with recorded(agent, ctx):
        failing.check(agent)
        await think(ctx.idempotency_key)
        yield


async def _database(domain: Domain) -> Database:
    return (await ready()).databases[domain]


# ---- agents that every ticket meets ------------------------------------------------------------------------


class Search(Facts):
    """What `identify` gets: the facts, and in whose databases to look."""

    domain: Domain


@app.agent(capabilities=["desk.intake"], timeout=TIMEOUT_S, retry=RETRY)
async def intake(ticket: Ticket, ctx: Context) -> Facts:
    """What the text says that could be looked up."""
    async with at_work("intake", ctx):
        return lookup.intake(ticket, await _database(ticket.domain))


@app.agent(capabilities=["desk.assess"], timeout=TIMEOUT_S, retry=RETRY)
async def assess(ticket: Ticket, ctx: Context) -> Urgency:
    """How soon and how gently to answer."""
    async with at_work("assess", ctx):
        return desk.assess(ticket)


@app.agent(capabilities=["desk.identify"], timeout=TIMEOUT_S, retry=RETRY)
async def identify(search: Search, ctx: Context) -> Customer:
    """Who the customer is and what is theirs."""
    async with at_work("identify", ctx):
        return lookup.identify(search.domain, search, await _database(search.domain))


@app.agent(capabilities=["desk.triage"], timeout=TIMEOUT_S, retry=RETRY)
async def triage(question: Question, ctx: Context) -> Verdict:
    """Which capability the ticket needs."""
    async with at_work("triage", ctx):
        return rules.triage(question)


@app.agent(capabilities=["desk.policy"], timeout=TIMEOUT_S, retry=RETRY)
async def policy_check(review: Review, ctx: Context) -> Check:
    """Whether policy allows a proposal."""
    async with at_work("policy_check", ctx):
        return desk.policy_check(review)


@app.agent(capabilities=["desk.compose"], timeout=TIMEOUT_S, retry=RETRY)
async def compose(draft: Draft, ctx: Context) -> Reply:
    """The words that go back."""
    async with at_work("compose", ctx):
        return desk.compose(draft)


@app.agent(capabilities=["general"], timeout=TIMEOUT_S, retry=RETRY)
async def generalist(case: Case, ctx: Context) -> Proposal:
    """Answers what no specialist is for."""
    async with at_work("generalist", ctx):
        return desk.generalist(case)


# ---- twelve specialists ------------------------------------------------------------------------------------


@app.agent(capabilities=["airline.booking"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def airline_booking(case: Case, ctx: Context) -> Proposal:
    """Finds a flight with seats and proposes to book it."""
    async with at_work("airline_booking", ctx):
        return airline.booking(case, await _database("airline"))


@app.agent(capabilities=["airline.cancellation"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def airline_cancellation(case: Case, ctx: Context) -> Proposal:
    """Finds the reservations meant and proposes to cancel them."""
    async with at_work("airline_cancellation", ctx):
        return airline.cancellation(case, await _database("airline"))


@app.agent(capabilities=["airline.changes"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def airline_changes(case: Case, ctx: Context) -> Proposal:
    """Proposes one change of a reservation: flights, bags or passengers."""
    async with at_work("airline_changes", ctx):
        return airline.changes(case, await _database("airline"))


@app.agent(capabilities=["airline.compensation"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def airline_compensation(case: Case, ctx: Context) -> Proposal:
    """Checks the flights complained about and proposes a certificate."""
    async with at_work("airline_compensation", ctx):
        return airline.compensation(case, await _database("airline"))


@app.agent(capabilities=["retail.cancellation"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def retail_cancellation(case: Case, ctx: Context) -> Proposal:
    """Finds the pending orders meant and proposes to cancel them."""
    async with at_work("retail_cancellation", ctx):
        return retail.cancellation(case, await _database("retail"))


@app.agent(capabilities=["retail.changes"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def retail_changes(case: Case, ctx: Context) -> Proposal:
    """Proposes one change of a pending order, or of the account's address."""
    async with at_work("retail_changes", ctx):
        return retail.changes(case, await _database("retail"))


@app.agent(capabilities=["retail.returns"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def retail_returns(case: Case, ctx: Context) -> Proposal:
    """Finds the delivered items meant and proposes to take them back."""
    async with at_work("retail_returns", ctx):
        return retail.returns(case, await _database("retail"))


@app.agent(capabilities=["retail.exchanges"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def retail_exchanges(case: Case, ctx: Context) -> Proposal:
    """Finds the delivered items meant and variants in stock to exchange them for."""
    async with at_work("retail_exchanges", ctx):
        return retail.exchanges(case, await _database("retail"))


@app.agent(capabilities=["telecom.data"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def telecom_data(case: Case, ctx: Context) -> Proposal:
    """Looks at the line's plan and use and proposes how to get data back."""
    async with at_work("telecom_data", ctx):
        return telecom.data(case, await _database("telecom"))


@app.agent(capabilities=["telecom.service"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def telecom_service(case: Case, ctx: Context) -> Proposal:
    """Looks at the line's status and proposes how to get service back."""
    async with at_work("telecom_service", ctx):
        return telecom.service(case, await _database("telecom"))


@app.agent(capabilities=["telecom.messaging"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def telecom_messaging(case: Case, ctx: Context) -> Proposal:
    """Proposes how to get picture messages to work."""
    async with at_work("telecom_messaging", ctx):
        return telecom.messaging(case, await _database("telecom"))


@app.agent(capabilities=["telecom.billing"], timeout=TIMEOUT_S, retry=RETRY, breaker=BREAKER)
async def telecom_billing(case: Case, ctx: Context) -> Proposal:
    """Finds the bill that is due and proposes to ask for payment."""
    async with at_work("telecom_billing", ctx):
        return telecom.billing(case, await _database("telecom"))
