"""Research on a budget: many sources at the same time, whatever comes of them, and a report of what there is.

    pointsman dev examples/research.py:app
    pointsman runs start research '{"question": "tides", "sources": ["books", "papers", "the web"]}' --wait

A source that fails costs its answer and nothing else. The run as a whole has a dime: when it is used up, the sources
that are left are not asked, and the report says how many answered.
"""

from pydantic import BaseModel

from pointsman import App, Budget, Context, Cost, Retry, Run, fan_out

app = App("research")


class Question(BaseModel):
    question: str
    sources: list[str]


class Report(BaseModel):
    text: str
    asked: int
    answered: int
    failed: dict[str, str]


@app.agent(cost=Cost(usd=0.02, usd_most=0.03), retry=Retry(attempts=2, base=0.5), timeout=20)
async def search(question: str, source: str, ctx: Context) -> str:
    """Stands for a model with a search tool."""
    if source == "the moon":
        raise ConnectionError("nobody answers there")
    ctx.spend(usd=0.025, tokens=900)
    return f"{source} on {question}"


@app.agent(timeout=60)
async def summarise(question: str, findings: list[str]) -> str:
    return f"{question}: {'; '.join(findings)}"


@app.workflow(budget=Budget(usd=0.10))
async def research(run: Run, question: Question) -> Report:
    inputs = [(question.question, source) for source in question.sources]
    found = await fan_out(run, search, inputs, at_once=2, at_least=1, fallback=[])
    text = await run.call(summarise, question.question, found.results)
    failed = {question.sources[place]: str(error) for place, error in found.errors.items()}
    return Report(text=text, asked=len(inputs), answered=len(found.results), failed=failed)
