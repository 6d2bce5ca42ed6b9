"""A support desk: who answers is chosen by what is asked, a person answers what no agent may, and the talk goes on
until the customer is content, or silent for a week.

    pointsman dev examples/customer_support.py:app
    pointsman runs start support '{"customer": "acme", "text": "I was charged twice"}' --id acme-1
    pointsman runs signal acme-1 says '"It was 30 euros"'
    pointsman runs signal acme-1 says '"thanks"'
"""

from pydantic import BaseModel

from pointsman import AgentRefused, App, Budget, Context, Conversation, Run, SignalTimeout, Thread

app = App("customer support", generalist="generalist")
TOPICS = {"charged": "billing", "refund": "billing", "error": "technical", "slow": "technical"}
REFUNDS: dict[str, int] = {}  # stands for the payment provider, which knows an idempotency key when it comes again
SENT: dict[str, str] = {}  # stands for the mail server, likewise


class Ticket(BaseModel):
    customer: str
    text: str


class Closed(BaseModel):
    handled_by: str
    messages: int
    because: str


@app.agent(timeout=20)
async def classify(text: str) -> str:
    return next((topic for word, topic in TOPICS.items() if word in text.lower()), "other")


@app.agent(capabilities=["billing"], timeout=20, budget=Budget(calls=1_000, per=3_600))
async def billing(thread: Thread, ctx: Context) -> str:
    amounts = [int(word) for word in thread.messages[-1].content.split() if word.isdigit()]
    if not amounts:
        return "How much was it?"
    if amounts[0] > 100:
        raise AgentRefused(f"{amounts[0]} is more than I may refund")
    REFUNDS[ctx.idempotency_key] = amounts[0]
    return f"{amounts[0]} euros are on their way back to you."


@app.agent(timeout=20)
async def generalist(thread: Thread) -> str:
    if any(word.isdigit() for word in thread.messages[-1].content.split()):
        raise AgentRefused("money is not mine to give")
    return f"We look into it, with your {len(thread.messages)} messages."


@app.agent
async def summarise(thread: Thread) -> str:
    return f"{thread.summary} {len(thread.messages)} older messages.".strip()


@app.agent
async def send(customer: str, text: str, ctx: Context) -> None:
    SENT[ctx.idempotency_key] = f"{customer}: {text}"


@app.workflow(budget=Budget(calls=200), turns_max=200)
async def support(run: Run, ticket: Ticket) -> Closed:
    topic = await run.call(classify, ticket.text, fallback=[], default="other")
    who = await run.select(needs=[topic])
    talk = Conversation(run, window=6, summariser=summarise)
    talk.add("customer", ticket.text)
    for sent in range(1, 100):
        said = await talk.ask(who, person=f"{ticket.customer} waits for an answer. What do we say?")
        await run.call(send, ticket.customer, said)
        try:
            text = await run.wait_for("says", expect=str, timeout=7 * 86_400)
        except SignalTimeout:
            return Closed(handled_by=who, messages=sent, because="silence")
        if "thank" in text.lower():
            return Closed(handled_by=who, messages=sent, because="the customer is content")
        talk.add("customer", text)
    return Closed(handled_by=who, messages=sent, because="enough is said")
