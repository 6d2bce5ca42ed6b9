"""An order that is undone where it fails: stock, payment and parcel, each at somebody else's, with no transaction
around them.

    pointsman dev examples/order_saga.py:app
    pointsman runs start order '{"item": "a globe", "cents": 4900}' --wait

Kill the process in the middle: the order goes on, or goes on being undone, where it was. Whoever is asked gets an
idempotency key that is the same at every attempt, and keeps to it.
"""

from pydantic import BaseModel

from pointsman import AgentRefused, App, Context, Run, Saga

app = App("orders")


class Order(BaseModel):
    item: str
    cents: int


def provider(what: str, about: str, ctx: Context) -> str:
    """Stands for the request to a service, which does it once for each key, however often it is asked."""
    return f"{what} {about} under {ctx.idempotency_key}"


@app.agent(timeout=10)
async def reserve(reservation: str, item: str, ctx: Context) -> str:
    if item == "the moon":
        raise AgentRefused("not in stock, and never was")
    return provider("reserve", f"{item} as {reservation}", ctx)


@app.agent(timeout=10)
async def release(reservation: str, ctx: Context) -> str:
    return provider("release", reservation, ctx)


@app.agent(timeout=10)
async def charge(payment: str, cents: int, ctx: Context) -> str:
    if cents > 100_000:
        raise AgentRefused("the card is declined")
    return provider("charge", f"{cents} cents as {payment}", ctx)


@app.agent(timeout=10)
async def refund(payment: str, ctx: Context) -> str:
    return provider("refund", payment, ctx)


@app.agent(timeout=10)
async def ship(item: str, ctx: Context) -> str:
    return provider("ship", item, ctx)


@app.workflow()
async def order(run: Run, order: Order) -> str:
    async with Saga(run) as saga:
        reservation, payment = run.uuid(), run.uuid()
        saga.undo(release, reservation)
        await run.call(reserve, reservation, order.item, fallback=[])
        saga.undo(refund, payment)
        await run.call(charge, payment, order.cents, fallback=[])
        # What is shipped can't be undone: a cancel comes before it, or not at all. A timeout of `ship` still undoes the
        # payment: where a parcel may have left all the same, give it person=.
        with run.shield():
            parcel: str = await run.call(ship, order.item, fallback=[])
    return parcel
