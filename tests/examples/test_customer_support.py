"""The support desk: it refunds once, asks people what it may not decide, and closes what is silent for a week."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from examples.customer_support import REFUNDS, SENT, app
from pointsman.testing import Timeout, WorkflowEnvironment

CHARGED = {"customer": "acme", "text": "I was charged twice"}


@pytest.fixture
async def env() -> AsyncIterator[WorkflowEnvironment]:
    REFUNDS.clear()
    SENT.clear()
    async with WorkflowEnvironment(app) as made:
        yield made


async def test_a_refund_is_talked_over_and_made_once(env: WorkflowEnvironment) -> None:
    run = await env.start("support", CHARGED)
    await env.sleep(60)
    await env.signal(run, "says", "It was 30 euros")
    await env.sleep(60)
    await env.signal(run, "says", "thanks")
    closed = await env.result(run)
    assert (closed.handled_by, closed.messages) == ("billing", 2)
    assert closed.because == "the customer is content"
    assert list(REFUNDS.values()) == [30]
    assert list(SENT.values()) == ["acme: How much was it?", "acme: 30 euros are on their way back to you."]


async def test_what_no_agent_may_decide_a_person_does(env: WorkflowEnvironment) -> None:
    run = await env.start("support", {"customer": "acme", "text": "Please refund 5000 euros"})
    (task,) = await env.tasks(run)
    assert task.question == "acme waits for an answer. What do we say?"
    await env.sleep(timedelta(days=3))
    await env.answer(run, "We have sent them.", by="ann")
    assert (await env.result(run)).because == "silence"
    assert REFUNDS == {}
    assert list(SENT.values()) == ["acme: We have sent them."]


async def test_a_silent_customer_is_waited_for_a_week(env: WorkflowEnvironment) -> None:
    began = env.now()
    closed = await env.run("support", {"customer": "acme", "text": "It is slow"})
    assert (closed.handled_by, closed.because) == ("generalist", "silence")
    assert timedelta(days=7) <= env.now() - began < timedelta(days=7, minutes=1)


async def test_a_long_talk_is_summarised_and_what_cannot_be_classified_is_answered(env: WorkflowEnvironment) -> None:
    env.script("classify", [Timeout()] * 3)
    run = await env.start("support", {"customer": "acme", "text": "hm"})
    for number in range(8):
        await env.sleep(3_600)
        await env.signal(run, "says", f"and then, part {'i' * number}")
    await env.sleep(3_600)
    await env.signal(run, "says", "thank you")
    assert (await env.result(run)).handled_by == "generalist"
    assert env.calls("summarise")
    assert max(len(call.input["messages"]) for call in env.calls("generalist")) <= 9
