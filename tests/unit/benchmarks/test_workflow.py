"""The cluster's app in this process, on the store in memory: who answers when agents fail, and what the ledger says."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from benchmarks.triage.agents import BACKUP, GENERALIST, STATIC, World
from benchmarks.triage.ledger import Account, Ledger, Seen
from benchmarks.triage.plan import KINDS, TRIAGE, Plan
from benchmarks.triage.workflow import make_app
from pointsman import StartRun
from pointsman.kernel.policy.failures import FAILURE_KINDS
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.ports.runs import RunView
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from tests.unit.benchmarks.planned import ByHand

ROW, TEXT, DESK = 7, "my card arrival, please", "card_delivery"
MakeWorld = Callable[[Plan], World]
Fates = dict[tuple[str, int], str]


@pytest.fixture
def settle(make_world: MakeWorld) -> Callable[..., object]:
    """Drive one ticket until it has ended, or a person has it. Gives the run and its account."""

    async def drive(fates: Fates) -> tuple[RunView, Account]:
        world = make_world(Plan())
        world.plan = plan = ByHand(
            fates=fates, took_s=0.001, timeout_s=0.05, retry_base_s=0.001, retry_after_s=0.01, down_agent="nobody"
        )
        async with make_app(plan).running(MemoryStore(MemoryDatabase())) as runs:
            data = msgspec.json.encode({"row": ROW, "text": TEXT})
            view = (await runs.start(StartRun("support", data))).view
            while view.head.status not in ENDED_STATUSES and not (
                view.head.status == "parked" and not view.head.wake_at
            ):
                view = await runs.wait(view.head.id, timeout_s=0.05)
            events = await runs.events(view.head.id, after=0, limit=500, inputs=False)
        seen = [Seen(event.at, event.epoch, event.type, msgspec.json.decode(event.data)) for event in events]
        return view, Ledger(plan, ROW).read(seen)

    return drive


def answered_by(view: RunView) -> str:
    assert view.output is not None
    return str(msgspec.json.decode(view.output)["agent"])


async def test_two_calls_when_nothing_fails(settle) -> None:
    view, account = await settle({})
    assert answered_by(view) == account.named == DESK
    assert (account.status, account.saved_by, account.failures) == ("answered", "", [])
    assert account.agent_s == pytest.approx(0.002)


@pytest.mark.parametrize("agent", [TRIAGE, DESK])
@pytest.mark.parametrize("kind", KINDS)
async def test_each_kind_is_met_as_itself_and_survived(settle, agent: str, kind: str) -> None:
    view, account = await settle({(agent, 1): kind})
    assert account.status == "answered"
    assert set(account.failures) == {kind}
    if FAILURE_KINDS[kind].retryable:
        assert account.saved_by == "retry"
        assert answered_by(view) == DESK
    else:
        assert account.saved_by == "fallback"
        assert answered_by(view) == (DESK if agent == TRIAGE else GENERALIST)
    assert account.named == DESK


async def test_without_triage_the_generalist_answers(settle) -> None:
    view, account = await settle({(TRIAGE, 1): "refused", (BACKUP, 2): "refused"})
    assert answered_by(view) == GENERALIST
    assert (account.status, account.saved_by, account.named) == ("answered", "fallback", "")


async def test_in_the_end_a_person_is_asked(settle) -> None:
    view, account = await settle({(DESK, 1): "refused", (GENERALIST, 2): "context_overflow"})
    assert view.head.status == "parked"
    assert (account.status, account.saved_by) == ("with_person", "person")
    assert account.open_ms is not None


async def test_nobody_named_and_nobody_left_gives_the_fixed_answer(settle) -> None:
    fates = {(TRIAGE, 1): "refused", (BACKUP, 2): "refused", (GENERALIST, 1): "refused"}
    view, account = await settle(fates)
    assert answered_by(view) == STATIC
    assert (account.status, account.saved_by) == ("static", "")
