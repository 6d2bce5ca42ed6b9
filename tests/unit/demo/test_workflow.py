"""The workflow's body, driven by a run that calls agents at once: what it calls, and what comes out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pointsman.demo import agents, data, journal, workflow
from pointsman.demo.data import Corpus
from pointsman.demo.desks import BY_CAPABILITY, DESKS
from pointsman.demo.models import Resolution, Ticket

Body = Callable[[Any, Ticket], Awaitable[Resolution]]


class DirectRun:
    """The part of a run that the body uses, without an engine: each call is one attempt, made at once."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, target: Any, value: Any) -> Any:
        self.calls += 1
        ctx = SimpleNamespace(
            run="r",
            call=f"c#{self.calls}",
            attempt=1,
            idempotency_key=f"r/{self.calls}",
            epoch=1,
            deadline=0.0,
        )
        return await (getattr(agents, target) if isinstance(target, str) else target)(value, ctx)

    def start(self, target: Any, value: Any) -> Awaitable[Any]:
        return self.call(target, value)

    async def gather(self, *handles: Awaitable[Any]) -> tuple[Any, ...]:
        return tuple([await handle for handle in handles])

    async def select(self, *, needs: list[str]) -> str:
        return BY_CAPABILITY[needs[0]].agent if needs[0] in BY_CAPABILITY else "generalist"


@pytest.fixture(autouse=True)
def _bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(data.SOURCE, "sample")
    data._load_once.cache_clear()


def body() -> Body:
    return cast("Body", workflow.support)


def test_every_desk_has_its_agent() -> None:
    assert all(hasattr(agents, one.agent) for one in DESKS)


async def test_every_sample_ticket_is_resolved_in_seven_calls(
    sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(journal.JOURNAL, str(tmp_path / "journal"))
    agents_used = set()
    for ticket in sample.cycle(60):
        run = DirectRun()
        resolution = await body()(run, ticket)
        assert run.calls == workflow.CALLS_PER_TICKET
        assert (resolution.ticket, bool(resolution.reply)) == (ticket.id, True)
        agents_used.add(resolution.agent)
    assert agents_used == {one.agent for one in DESKS} | {"generalist"}
    counted = journal.count(journal.read(tmp_path / "journal"))
    assert (counted.starts, counted.unfinished) == (420, frozenset())
