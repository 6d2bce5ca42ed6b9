"""An agent on call, and a person who decides what is dangerous: it proposes a remedy, the person accepts, edits or
refuses it, somebody else is asked when nobody answers in a quarter of an hour; then it looks whether that helped.

    pointsman dev examples/on_call.py:app
    pointsman runs start alert '{"service": "checkout", "symptom": "errors after deploy"}' --id night-1
    pointsman inbox ls --assignee on-call
    pointsman inbox answer TASK --accept
"""

from typing import Literal

from pydantic import BaseModel

from pointsman import App, Context, Run

app = App("on call")
HARMLESS = ("none", "restart")
ACTIONS: dict[str, str] = {}  # stands for the platform, which knows an idempotency key when it comes again
ILL = {"checkout", "search"}  # what its monitoring would say


class Alert(BaseModel):
    service: str
    symptom: str


class Remedy(BaseModel):
    action: Literal["none", "restart", "roll back", "fail over"]
    why: str = ""


@app.agent(timeout=60)
async def diagnose(alert: Alert, tried: list[str]) -> Remedy:
    """Stands for a model with tools: what it is sure of it does, for the rest it asks."""
    if "deploy" in alert.symptom and "roll back" not in tried:
        return Remedy(action="roll back", why="it began with the deploy")
    return Remedy(action="restart" if "restart" not in tried else "fail over", why=f"{len(tried)} things did not help")


@app.agent(timeout=30)
async def act(service: str, remedy: Remedy, ctx: Context) -> None:
    ACTIONS[ctx.idempotency_key] = f"{remedy.action} {service}"
    if remedy.action in ("roll back", "fail over"):
        ILL.discard(service)


@app.agent(timeout=10)
async def is_well(service: str) -> bool:
    return service not in ILL


@app.workflow(turns_max=60)
async def alert(run: Run, alert: Alert) -> str:
    tried: list[str] = []
    while len(tried) < 4:
        remedy = await run.call(diagnose, alert, tried)
        if remedy.action not in HARMLESS:
            answer = await run.ask(
                f"{alert.service}: {alert.symptom}. {remedy.action}?",
                context={"tried": tried}, proposed=remedy, assignee="on-call",
                escalate_to="lead", escalate_in=900, expires_in=3_600,
            )  # fmt: skip
            if not answer.is_given:
                return f"{answer.outcome}: {alert.service} is left as it is"
            remedy = answer.value
        await run.call(act, alert.service, remedy)
        tried.append(remedy.action)
        await run.sleep(300)
        if await run.call(is_well, alert.service):
            return f"{alert.service} is well: {', '.join(tried)}"
    return f"{alert.service} is not well after {', '.join(tried)}"
