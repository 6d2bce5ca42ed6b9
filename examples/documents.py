"""A document pipeline of agents that know nothing of each other: each says what has happened, and others go on.

    pointsman dev examples/documents.py:app
    pointsman runs start document.received '{"name": "lease.txt", "text": "Rent is 900 a month."}' --wait

A document is read, its facts are taken out and judged; what is not good enough is taken out again with the judge's
remark, three times at most. What can't be read goes to a person's pile.
"""

from typing import Any

from pydantic import BaseModel

from pointsman import AgentRefused, App, Context

app = App("documents")
ROUNDS_MAX = 3


class Document(BaseModel):
    name: str
    text: str


class Facts(BaseModel):
    document: Document
    facts: list[str]
    rounds: int = 1


@app.on("document.received")
async def read(document: Document, ctx: Context) -> None:
    if not document.text.strip():
        raise AgentRefused(f"{document.name} is empty")
    ctx.emit("document.read", {"document": document})


@app.on("document.read", "facts.rejected")
@app.agent(timeout=60)
async def extract(document: Document, ctx: Context, remark: str = "", rounds: int = 0) -> None:
    """Stands for a model; the judge's remark would be in its prompt."""
    sentences = [sentence.strip() for sentence in document.text.split(".") if sentence.strip()]
    wanted = [s for s in sentences if any(c.isdigit() for c in s)] if remark else sentences
    ctx.emit("facts.extracted", Facts(document=document, facts=wanted, rounds=rounds + 1))


@app.on("facts.extracted")
async def judge(extracted: Facts, ctx: Context) -> None:
    vague = [fact for fact in extracted.facts if not any(c.isdigit() for c in fact)]
    if not vague:
        ctx.emit("facts.accepted", extracted)
    elif extracted.rounds < ROUNDS_MAX:
        again = {"document": extracted.document, "remark": f"vague: {vague[0]}", "rounds": extracted.rounds}
        ctx.emit("facts.rejected", again)
    else:
        ctx.emit("document.set_aside", {"name": extracted.document.name, "why": f"vague: {vague[0]}"})


@app.on("agent.refused", "agent.crashed")
async def set_aside(message: str, data: dict[str, Any], ctx: Context) -> None:
    name = data.get("name") or data["document"]["name"]
    ctx.emit("document.set_aside", {"name": name, "why": message})


document = app.events("document.received", ends=["facts.accepted", "document.set_aside"], turns_max=20)
