"""What the cluster runs: the agents as an app of Pointsman, and the workflow. Two calls a ticket, when nothing fails.

triage (else its backup) names the specialist; else the generalist by rule
the specialist answers; else the generalist; else a person is asked
nobody could even be selected: a fixed, honest answer
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from benchmarks.triage.agents import BACKUP, GENERALIST, OUTPUT_BYTES_MAX, STATIC, answer
from benchmarks.triage.data import SPECIALISTS
from benchmarks.triage.plan import TRIAGE, Plan
from pointsman import App, Breaker, Context, Retry, Run

NOBODY: Final = ""
FIXED_ANSWER: Final = "We can't answer this now. A colleague will write to you tomorrow."
QUESTION: Final = "No agent could answer this customer. What shall we say?"
HOLD_S: Final = 0.0
"""A call of an agent that can't take it goes to the next one at once: customers wait for no breaker."""
BREAKER: Final = Breaker(window=5.0, open_for=2.0)
"""Five seconds: an agent with 40 calls a second that dies is then known to be dead in half that."""


@dataclass
class Question:
    row: int
    text: str


@dataclass
class Reply:
    """`agent` is who answered; "static" for the fixed answer."""

    row: int
    agent: str
    text: str


def make_app(plan: Plan) -> App:
    """Twelve specialists, a generalist, triage and its backup, and the workflow `support`."""
    app = App("triage", generalist=GENERALIST, value_bytes_max=OUTPUT_BYTES_MAX)
    retry = Retry(attempts=plan.retry_attempts, base=plan.retry_base_s)
    usual: dict[str, Any] = {"timeout": plan.timeout_s, "retry": retry, "hold": HOLD_S, "breaker": BREAKER}

    def declare_triage(name: str, fallback: list[str]) -> Any:
        async def name_specialist(question: Question, ctx: Context) -> str:
            return await answer(name, question.row, question.text, ctx.attempt)  # type: ignore[no-any-return]

        return app.agent(name=name, fallback=fallback, **usual)(name_specialist)

    def declare_desk(name: str) -> None:
        async def reply(question: Question, ctx: Context) -> Reply:
            return await answer(name, question.row, question.text, ctx.attempt)  # type: ignore[no-any-return]

        app.agent(name=name, capabilities=[name], **usual)(reply)

    declare_triage(BACKUP, [])
    triage = declare_triage(TRIAGE, [BACKUP])
    for name in (*SPECIALISTS, GENERALIST):
        declare_desk(name)

    @app.workflow()
    async def support(run: Run, question: Question) -> Reply:
        named = await run.call(triage, question, default=NOBODY)
        who = await run.select(by=as_triage_said, of=named)
        if named == NOBODY:
            reply: Reply = await run.call(who, question, default=Reply(question.row, STATIC, FIXED_ANSWER))
        else:
            reply = await run.call(who, question, person=QUESTION)
        return reply

    return app


def as_triage_said(named: str) -> str:
    """The primary selector. The runtime passes over a name whose agent can't take calls, and takes the generalist."""
    return named
