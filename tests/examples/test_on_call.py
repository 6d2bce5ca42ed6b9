"""The agent on call: what is dangerous a person decides, or nobody, and then it is not done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from examples import on_call
from pointsman.testing import WorkflowEnvironment

DEPLOY = {"service": "checkout", "symptom": "errors after deploy"}


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    on_call.ACTIONS.clear()
    on_call.ILL.update({"checkout", "search"})
    async with WorkflowEnvironment(on_call.app) as made:
        yield made


async def test_a_person_accepts_what_is_proposed(env: WorkflowEnvironment) -> None:
    run = await env.start("alert", DEPLOY)
    (task,) = await env.tasks(run)
    assert task.question == "checkout: errors after deploy. roll back?"
    assert on_call.ACTIONS == {}
    await env.answer(run, {"action": "roll back", "why": "it began with the deploy"}, by="ann")
    assert await env.result(run) == "checkout is well: roll back"


async def test_a_person_knows_better(env: WorkflowEnvironment) -> None:
    run = await env.start("alert", DEPLOY)
    await env.answer(run, {"action": "fail over"}, by="ann")
    assert await env.result(run) == "checkout is well: fail over"


async def test_what_is_harmless_needs_nobody_at_first(env: WorkflowEnvironment) -> None:
    run = await env.start("alert", {"service": "search", "symptom": "slow"})
    await env.sleep(timedelta(minutes=6))
    assert list(on_call.ACTIONS.values()) == ["restart search"]
    (task,) = await env.tasks(run)
    assert task.question == "search: slow. fail over?"
    await env.refuse(run, "not at night", by="ann")
    assert await env.result(run) == "refused: search is left as it is"


async def test_nobody_answers(env: WorkflowEnvironment) -> None:
    began = env.now()
    run = await env.start("alert", DEPLOY)
    await env.sleep(timedelta(minutes=20))
    assert "HumanTaskEscalated" in [kind for kind, _ in await env.events(run)]
    assert await env.result(run) == "expired: checkout is left as it is"
    assert timedelta(hours=1) <= env.now() - began < timedelta(hours=1, minutes=1)
    assert on_call.ACTIONS == {}
